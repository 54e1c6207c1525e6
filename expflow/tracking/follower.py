"""The process that brings MLflow up to a sweep's ledger.

    python -m expflow.tracking.follower FOLDER --uri URI [--parent-pipe]

It is no part of the driver: a store that is slow or gone delays MLflow and nothing else. How far it came is kept beside
the ledger, per store; losing that file costs a repetition that changes nothing.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from expflow.config.identity import folder_name
from expflow.errors import Refused
from expflow.ledger import Cursor, read
from expflow.ledger.lock import read_holder
from expflow.ledger.reader import FOLDER as LEDGER_FOLDER
from expflow.ledger.reader import segments_of
from expflow.tracking.background import run_behind_everything
from expflow.tracking.call_deadline import CALL_SECONDS
from expflow.tracking.chart_layout import VIEW_PREFIX, saved_view, view_id
from expflow.tracking.exported_models import model_folder, read_exports
from expflow.tracking.follower_lock import alone_at, turn_at
from expflow.tracking.follower_progress import FollowerProgress
from expflow.tracking.ledger_translator import LedgerTranslator
from expflow.tracking.notes import config_note, read_report, sweep_note
from expflow.tracking.pending_updates import SWEEP
from expflow.tracking.store import bounded_environment, errors_as_unreachable, is_server, trouble_line
from expflow.tracking.verdict_tags import verdict_tags
from expflow.tracking.writer import RunWriter

_log = logging.getLogger("expflow.tracking")

POLL_SECONDS = 0.5
SERVER_SECONDS, FILE_SECONDS = 5.0, 2.0
"""How long reports are gathered before they go to a server, or into a file: a call takes a hundred of them in little
more time than one."""
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
"""How long the store may stay unreachable after the driver ended; then the rest is left for the next time."""
RECORDS_PER_FLUSH = 2000
NEW_OBJECTS = 50_000
"""After how many new objects Python looks for garbage; at its own 700 that takes a seventh of this process's time."""
PROVENANCE = ("experiment.yaml", "environment.txt", "changes.diff")
"""Files that the newest driver has left in the results folder (expflow.sweep.result_files)."""
MOST_DESCRIBED = 100
"""Configs whose pages get a description: two calls each, for what the list of runs shows as well."""


class Follower:
    """Brings one MLflow store up to one ledger, step by step.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.give_up_at: float | None = None
        """When, by a monotonic clock, the store's last chance is over; None while the driver runs."""
        self._writer = RunWriter(uri, folder, self._call_seconds)
        self._progress = FollowerProgress(folder, uri)
        self._translator, self._read = LedgerTranslator(), Cursor()
        self._replayed = False
        self.has_backlog = False
        """Whether the last step left records of the ledger that are there already."""

    def step(self) -> bool:
        """Write the next records to MLflow; returns whether there were any.

        Raises what MLflow raises when it cannot be reached; the next step writes the same again.

        Raises:
            LedgerDamaged: The ledger does not read.
        """
        if not self._replayed:
            self._replay()
        if not self._translator.pending and not self._read_on():
            return False
        self._flush()
        self._progress.save(self._read)
        return True

    def finish(self) -> None:
        """After the last step: mark a sweep whose driver died as killed, and attach the report. Raises as
        :meth:`step`."""
        if self._translator.state.header is None:
            return
        if self.driver_is_gone:
            self._translator.interrupt(time.time())
        self._flush()
        self._writer.tag({"expflow.ledger": _ledger_digest(self.folder)})
        report = self.folder / "report.html"
        stamp = str(report.stat().st_mtime_ns) if report.exists() else ""
        if stamp and stamp != self._progress.report:
            figures = self.folder / "figures"
            self._writer.upload([report, figures] if figures.is_dir() else [report])
            self._describe(read_report(self.folder / "report.json"))
            self._progress.save(self._read, report=stamp)
        self._upload_pictures()
        self._log_models()
        if self._progress.trouble:
            self._progress.save(self._read)

    def _describe(self, report: Mapping[str, Any]) -> None:
        """Say on the pages of the experiment, the sweep and the configs what the report says of them."""
        self._writer.tag(verdict_tags(report))
        note = sweep_note(self._translator.header.about, report)
        self._writer.describe_run(SWEEP, note)
        self._writer.describe_experiment(note)
        for key in self._writer.keys("config")[:MOST_DESCRIBED]:
            self._writer.describe_run(key, config_note(report, key.split(":")[1]))

    def _log_models(self) -> None:
        """Log the models that were exported, and say of the others why they were not."""
        for trial, export in read_exports(self.folder).items():
            if export.stamp != self._progress.models.get(trial):
                self._writer.log_model(export, model_folder(self.folder, trial))
                self._progress.models[trial] = export.stamp
                self._progress.save(self._read)

    def _upload_pictures(self) -> None:
        """Attach what `expflow show` has drawn of a trial to the trial's run."""
        for trial in self._translator.state.trials.values():
            pictures = self.folder / "trials" / folder_name(trial.values, trial.seed, trial.trial) / "pictures"
            files = sorted(pictures.glob("*.png"))
            stamp = _stamp(files)
            if stamp and stamp != self._progress.pictures.get(trial.trial):
                self._writer.upload([pictures], f"trial:{trial.trial}")
                self._progress.pictures[trial.trial] = stamp
                self._progress.save(self._read)

    def _call_seconds(self) -> float:
        left = CALL_SECONDS if self.give_up_at is None else self.give_up_at - time.monotonic()
        return min(CALL_SECONDS, max(1.0, left))

    def note_trouble(self, error: Exception) -> None:
        """Note why the store does not take it: in the log, once for each reason, and beside the cursor for the driver.

        Args:
            error: What the last step raised.
        """
        trouble = trouble_line(error, self.uri)
        if trouble != self._progress.trouble:
            _log.warning("MLflow does not take it, trying again: %s", trouble)
            self._progress.save(self._progress.cursor, trouble=trouble)

    def disconnect(self) -> None:
        """After an error: connect and look runs up anew before the next step."""
        self._writer.disconnect()

    @property
    def driver_stopped(self) -> bool:
        """Whether the newest record that was read is that the driver stopped."""
        return self._translator.driver_stopped

    @property
    def driver_is_gone(self) -> bool:
        """Whether no driver writes this ledger any more, in good order or not."""
        holder = read_holder(self.folder / LEDGER_FOLDER)
        return holder is None or holder.owner is None or holder.owner.is_dead() is True

    def _replay(self) -> None:
        """Apply again the records that an earlier process wrote to the store, without writing them again."""
        for record in read(self.folder):
            if record.cursor > self._progress.cursor:
                break
            self._translator.apply(record)
            self._translator.pending.clear()  # each time: a million reports would fill the memory
            self._read = record.cursor
        self._replayed = True
        if not self.driver_is_gone:  # an earlier follower may have taken a live driver for dead
            self._translator.reassert(time.time())

    def _read_on(self) -> bool:
        count = 0
        for record in islice(read(self.folder, after=self._read), RECORDS_PER_FLUSH):
            self._translator.apply(record)
            self._read = record.cursor
            count += 1
        self.has_backlog = count == RECORDS_PER_FLUSH
        return count > 0

    def _flush(self) -> None:
        translator = self._translator
        self._writer.open(translator.header.name, translator.sweep_id)
        if not self._writer.knows_sweep and self._progress.cursor > Cursor():
            self._start_over()
            return
        view = saved_view(translator.header, translator.sweep_id, translator.begun_at)
        self._writer.tag_experiment(VIEW_PREFIX + view_id(translator.sweep_id), view)
        self._writer.write(translator.pending, translator.spec, translator.header)
        translator.pending.clear()
        self._upload_provenance()

    def _upload_provenance(self) -> None:
        """Attach what the newest driver was given: its file, its packages, what differed from the commit."""
        files = [path for name in PROVENANCE if (path := self.folder / name).is_file()]
        stamp = _stamp(files)
        if stamp != self._progress.provenance:
            self._writer.upload(files, to="experiment")
            self._progress.provenance = stamp

    def _start_over(self) -> None:
        """The store was replaced by an empty one, or the ledger by another: write everything from the beginning."""
        _log.warning("the store has nothing of this sweep; writing it from the beginning")
        self._progress.pictures.clear()
        self._progress.models.clear()
        self._progress.provenance = ""
        self._progress.save(Cursor(), report="")
        self._translator, self._read = LedgerTranslator(), Cursor()
        while self.step():
            pass


def _ledger_digest(folder: Path) -> str:
    """What the ledger holds by now: its last segment's digest, which the digests of all before are part of."""
    segments = segments_of(folder)
    last = segments.digest(segments.numbers()[-1])
    return f"segment {last.segment}, {last.lines} lines, sha256 {last.sha256}"


def _stamp(files: Iterable[Path]) -> str:
    return ",".join(f"{file.name}:{file.stat().st_mtime_ns}" for file in files)


def catch_up(folder: Path, uri: str, *, wait: bool = False) -> bool:
    """Bring a store up to a ledger, in this process.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.
        wait: Whether to wait for the end of a follower process that is doing it already.

    Returns:
        False when a follower process is doing it already, and was not waited for.

    Raises:
        ServerUnreachable: The store does not take it; what is left is written the next time.
    """
    with bounded_environment(), alone_at(folder, wait=wait) as alone:
        if not alone:
            return False
        # Nothing is lost when this fails: what is left is written the next time.
        with errors_as_unreachable(uri, f"telling the results of {folder.name} (they are safe in the ledger)"):
            follower = Follower(folder, uri)
            while follower.step():
                pass
            follower.finish()
        return True


def follow(folder: Path, uri: str, ended: threading.Event | None = None) -> bool:
    """Follow a ledger until its driver stopped and everything is written.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.
        ended: Where given, this event says when the driver has ended, instead of the ledger.

    Returns:
        Whether everything was written; it gives up :data:`PATIENCE_SECONDS` after the end if the store does not answer.
    """
    follower, pause = Follower(folder, uri), POLL_SECONDS
    gathering = SERVER_SECONDS if is_server(uri) else FILE_SECONDS
    last_success, over = time.monotonic(), False
    while True:
        was_over, over = over, ended.is_set() if ended is not None else follower.driver_stopped
        if over and not was_over:  # a store that was away while the driver worked has its chance now
            last_success = time.monotonic()
        follower.give_up_at = last_success + PATIENCE_SECONDS if over else None
        try:
            if follower.step():
                last_success, pause = time.monotonic(), POLL_SECONDS
                if not over and not follower.has_backlog:
                    _pause(gathering, ended)
                continue
            if over and (follower.driver_stopped or follower.driver_is_gone or _waited(last_success, 5.0)):
                follower.finish()
                return True
            last_success = last_success if over else time.monotonic()
        except Refused as error:
            _log.error("%s", error)  # a damaged ledger does not mend itself
            return False
        except Exception as error:  # noqa: BLE001 - MLflow, its database and its HTTP library raise all sorts
            follower.note_trouble(error)
            follower.disconnect()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            if over and _waited(last_success, PATIENCE_SECONDS):
                _log.error("given up; the rest is written the next time")
                return False
        _pause(pause, ended if not over else None)


def _waited(since: float, seconds: float) -> bool:
    return time.monotonic() - since > seconds


def _pause(seconds: float, ended: threading.Event | None) -> None:
    if ended is None:
        time.sleep(seconds)
    else:
        ended.wait(seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's entry. Exit code 0 when this process has written everything.

    Args:
        arguments: The command line; by default that of the process.
    """
    parser = argparse.ArgumentParser(prog="expflow.tracking.follower", description=__doc__)
    parser.add_argument("folder", type=Path, help="the experiment's folder")
    parser.add_argument("--uri", default=os.environ.get("MLFLOW_TRACKING_URI"), help="the MLflow store")
    parser.add_argument("--parent-pipe", action="store_true", help="stop when standard input ends")
    parser.add_argument("--give-way", action="store_true", help="nobody waits: give way to other sessions, too")
    options = parser.parse_args(arguments)
    if not options.uri:
        parser.error("no MLflow store: give --uri or set MLFLOW_TRACKING_URI")
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    run_behind_everything(session=options.give_way)  # no training waits for a page that shows it
    gc.set_threshold(NEW_OBJECTS)
    ended = None
    if options.parent_pipe:
        # Stopping a cluster job signals every process of it. This one has the end still to write: it leaves after the
        # driver, whose death closes the pipe.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ended = _end_of_input()
    with bounded_environment(), turn_at(options.folder, ended) as has_come:
        return 0 if has_come and follow(options.folder, options.uri, ended) else 1


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
    code = main()
    sys.stdout.flush()
    os._exit(code)  # at once: a thread of MLflow's may still wait for a server that was given up
