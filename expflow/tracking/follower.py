"""The process that lets MLflow follow a sweep's ledger.

    python -m expflow.tracking.follower FOLDER --uri URI [--parent-pipe]

It is no part of the driver: a store that is slow, or gone, can make MLflow late and nothing else. How far it came is
kept beside the ledger, per store; losing that file costs a repetition that changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from expflow.config.identity import folder_name
from expflow.errors import Refused
from expflow.files import replace_whole
from expflow.ledger import Cursor, read
from expflow.ledger.lock import read_holder
from expflow.tracking.mirror import Mirror
from expflow.tracking.store import bounded_environment, reason, refusals_named
from expflow.tracking.writer import Writer

_log = logging.getLogger("expflow.tracking")

POLL_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
"""How long the store may stay unreachable after the driver ended; then the rest is left for the next time."""
RECORDS_PER_FLUSH = 2000


class Follower:
    """Brings the MLflow store at ``uri`` up to the ledger of the experiment folder ``folder``, step by step."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self._writer = Writer(uri, folder)
        self._place = _Place(folder / "tracking" / "cursor.json", uri)
        self._mirror, self._read = Mirror(), Cursor()
        self._replayed = False

    def step(self) -> bool:
        """Tell MLflow the next records; returns whether there were any.

        Raises what MLflow raises when it cannot be reached; the next step tells the same again. Raises LedgerDamaged
        where the ledger does not read.
        """
        if not self._replayed:
            self._replay()
        if not self._mirror.pending and not self._read_on():
            return False
        self._flush()
        self._place.save(self._read)
        return True

    def finish(self) -> None:
        """After the last step: say so of a driver that died, and attach the report. Raises as :meth:`step`."""
        if self._mirror.state.header is None:
            return
        if self.driver_is_gone:
            self._mirror.interrupt(time.time())
        self._flush()
        report = self.folder / "report.html"
        stamp = str(report.stat().st_mtime_ns) if report.exists() else ""
        if stamp and stamp != self._place.report:
            figures = self.folder / "figures"
            self._writer.upload([report, figures] if figures.is_dir() else [report])
            self._place.save(self._read, report=stamp)
        self._upload_pictures()

    def _upload_pictures(self) -> None:
        """Attach what `expflow show` has drawn of a trial to the trial's run."""
        for trial in self._mirror.state.trials.values():
            pictures = self.folder / "trials" / folder_name(trial.values, trial.seed, trial.trial) / "pictures"
            files = sorted(pictures.glob("*.png"))
            stamp = ",".join(f"{each.name}:{each.stat().st_mtime_ns}" for each in files)
            if stamp and stamp != self._place.pictures.get(trial.trial):
                self._writer.upload([pictures], f"trial:{trial.trial}")
                self._place.pictures[trial.trial] = stamp
                self._place.save(self._read)

    def disconnect(self) -> None:
        """After an error: connect and look anew before the next step."""
        self._writer.disconnect()

    @property
    def driver_stopped(self) -> bool:
        """Whether the ledger's last word, as far as it was read, is that its driver stopped."""
        return self._mirror.driver_stopped

    @property
    def driver_is_gone(self) -> bool:
        """Whether nobody writes this ledger any more, in good order or not."""
        holder = read_holder(self.folder / "ledger")
        return holder is None or holder.owner is None or holder.owner.is_dead() is True

    def _replay(self) -> None:
        """Build up again what was told in an earlier life, without telling it."""
        for record in read(self.folder):
            if record.cursor > self._place.cursor:
                break
            self._mirror.apply(record)
            self._read = record.cursor
        self._mirror.pending.clear()
        self._replayed = True
        if not self.driver_is_gone:  # an earlier follower may have taken a live driver for dead
            self._mirror.reassert(time.time())

    def _read_on(self) -> bool:
        count = 0
        for record in islice(read(self.folder, after=self._read), RECORDS_PER_FLUSH):
            self._mirror.apply(record)
            self._read = record.cursor
            count += 1
        return count > 0

    def _flush(self) -> None:
        mirror = self._mirror
        self._writer.open(mirror.header.name, mirror.sweep_id)
        if not self._writer.knows_sweep and self._place.cursor > Cursor():
            self._start_over()
            return
        self._writer.write(mirror.pending, mirror.spec, mirror.header)
        mirror.pending.clear()

    def _start_over(self) -> None:
        """The store was replaced by an empty one, or the ledger by another: nothing of it was ever told there."""
        _log.warning("the store has nothing of this sweep; telling it from the beginning")
        self._place.pictures.clear()
        self._place.save(Cursor(), report="")
        self._mirror, self._read = Mirror(), Cursor()
        while self.step():
            pass


class _Place:
    """How far a store was told, and which report it has; one file for all stores of a sweep."""

    def __init__(self, path: Path, uri: str) -> None:
        self._path = path
        self._key = hashlib.sha256(uri.encode()).hexdigest()[:16]  # an address can hold a password
        self._all = self._load()
        mine = self._all.get(self._key, {})
        self.cursor = Cursor(mine.get("segment", 0), mine.get("line", 0), mine.get("offset", 0))
        self.report: str = mine.get("report", "")
        self.pictures: dict[str, str] = dict(mine.get("pictures", {}))
        """Trial -> the files, and when they were written, that its run has."""

    def save(self, cursor: Cursor, *, report: str | None = None) -> None:
        self.cursor, self.report = cursor, self.report if report is None else report
        pictures = {"pictures": self.pictures} if self.pictures else {}
        self._all[self._key] = {**asdict(cursor), "report": self.report, **pictures}
        replace_whole(self._path, json.dumps(self._all).encode())

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text())
        except (OSError, ValueError):  # nothing, or damaged: telling all again is harmless
            return {}
        return found if isinstance(found, dict) else {}


def catch_up(folder: Path, uri: str) -> bool:
    """Bring the store at ``uri`` up to the ledger of ``folder``, in this process.

    Returns False when a follower process is at it already. Raises ServerUnreachable, with the reason, where the store
    does not take it; what is left is told the next time.
    """
    with bounded_environment(), _alone(folder, wait=False) as alone:
        if not alone:
            return False
        # Nothing is lost when this fails: what is left is told the next time.
        with refusals_named(uri, f"telling the results of {folder.name} (they are safe in the ledger)"):
            follower = Follower(folder, uri)
            while follower.step():
                pass
            follower.finish()
        return True


def follow(folder: Path, uri: str, ended: threading.Event | None = None) -> bool:
    """Follow the ledger of ``folder`` until its driver stopped (or, where given, until ``ended``) and all is told.

    Returns whether all was told; it gives up :data:`PATIENCE_SECONDS` after the end if the store does not answer.
    """
    follower, pause = Follower(folder, uri), POLL_SECONDS
    last_success = time.monotonic()
    while True:
        over = ended.is_set() if ended is not None else follower.driver_stopped
        try:
            if follower.step():
                last_success, pause = time.monotonic(), POLL_SECONDS
                continue
            if over and (follower.driver_stopped or follower.driver_is_gone or _waited(last_success, 5.0)):
                follower.finish()
                return True
            last_success = last_success if over else time.monotonic()
        except Refused as error:
            _log.error("%s", error)  # a damaged ledger does not mend itself
            return False
        except Exception as error:  # noqa: BLE001 - MLflow, its database and its HTTP library raise all sorts
            _log.warning("MLflow does not take it, trying again: %s", reason(error, uri))
            follower.disconnect()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            if over and _waited(last_success, PATIENCE_SECONDS):
                _log.error("given up; the rest is told the next time")
                return False
        _pause(pause, ended if not over else None)


def _waited(since: float, seconds: float) -> bool:
    return time.monotonic() - since > seconds


def _pause(seconds: float, ended: threading.Event | None) -> None:
    if ended is None:
        time.sleep(seconds)
    else:
        ended.wait(seconds)


@contextlib.contextmanager
def _alone(folder: Path, *, wait: bool) -> Iterator[bool]:
    """At most one follower of a sweep on this machine; yields whether this is the one."""
    path = folder / "tracking" / "follower.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's entry. Exit code 0 when all was told."""
    parser = argparse.ArgumentParser(prog="expflow.tracking.follower", description=__doc__)
    parser.add_argument("folder", type=Path, help="the experiment's folder")
    parser.add_argument("--uri", default=os.environ.get("MLFLOW_TRACKING_URI"), help="the MLflow store")
    parser.add_argument("--parent-pipe", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(arguments)
    if not options.uri:
        parser.error("no MLflow store: give --uri or set MLFLOW_TRACKING_URI")
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    with contextlib.suppress(OSError):  # some sandboxes forbid it
        os.nice(19)  # behind the ranks, which Ray runs at 15: no training waits for a page that shows it
    ended = None
    if options.parent_pipe:
        # Who stops a cluster job signals every process of it. This one has the end still to tell: it leaves after the
        # driver, whose death closes the pipe.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ended = _end_of_input()
    with bounded_environment(), _alone(options.folder, wait=True):
        return 0 if follow(options.folder, options.uri, ended) else 1


def _end_of_input() -> threading.Event:
    """Set once standard input ends: when the driver closes it, and also when the driver is killed."""
    ended = threading.Event()

    def wait() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        ended.set()

    threading.Thread(target=wait, name="parent-pipe", daemon=True).start()
    return ended


if __name__ == "__main__":
    sys.exit(main())
