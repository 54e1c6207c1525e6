"""One driver at a time, and what happens when it dies.

``lock.json`` names the owner (host, process id, start time of the process), its epoch and the time of its last sign of
life. Taking, renewing and giving back happen under a short flock of a file beside it and replace the file in one
rename, so nobody ever reads half of it. A lock is taken over only when its owner is provably dead: on the same
machine when no such process runs any more, from elsewhere when its lease ran out. Every taking raises the epoch, which
is never lowered again, also not when a lock is given back: whoever holds an older one is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from expflow.errors import LedgerDamaged, LedgerLocked, StaleDriver
from expflow.files import replace_whole
from expflow.ledger.process import Process

LEASE_SECONDS = 600.0
"""How long an owner on another host may be silent before its lock is taken over."""
RENEW_SECONDS = 30.0
"""How often an owner gives a sign of life."""


@dataclass(frozen=True)
class Holder:
    """What ``lock.json`` says. ``owner`` is None when the lock is free; times are unix seconds."""

    epoch: int
    owner: Process | None
    since: float
    renewed: float


class Lock:
    """The lock of one ledger folder, held by this process since :meth:`take`."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self._folder = folder
        self._holder = holder
        self._seen = _stamp(folder)

    @property
    def epoch(self) -> int:
        """The number of this taking; greater than all before."""
        return self._holder.epoch

    @property
    def owner(self) -> Process:
        """This process."""
        if self._holder.owner is None:
            raise StaleDriver("this lock was given back")
        return self._holder.owner

    @classmethod
    def take(cls, folder: Path, *, at_least: int = 1) -> Lock:
        """Own the ledger folder ``folder``; the epoch is ``at_least`` that, and greater than all before.

        Raises LedgerLocked, saying who has it, when its owner lives or may live.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with _guard(folder):
            before = read_holder(folder)
            if before is not None and before.owner is not None and not _is_over(before, before.owner):
                raise LedgerLocked(_who(folder, before, before.owner))
            now = time.time()
            epoch = max(at_least, before.epoch + 1 if before else 1)
            holder = Holder(epoch, Process.current(), since=now, renewed=now)
            _write(folder, holder)
            return cls(folder, holder)

    def check(self) -> None:
        """Raise StaleDriver when another driver took over. Costs one ``stat`` while nothing changed."""
        if _stamp(self._folder) == self._seen:
            return
        with _guard(self._folder):
            self._check_content()
            self._seen = _stamp(self._folder)

    def renew(self) -> None:
        """Give a sign of life. Raises StaleDriver when another driver took over."""
        with _guard(self._folder):
            self._check_content()
            self._write(Holder(self.epoch, self.owner, self._holder.since, time.time()))

    def is_due(self) -> bool:
        """Whether it is time to renew (also after the clock jumped back)."""
        return not 0 <= time.time() - self._holder.renewed < RENEW_SECONDS

    def give_back(self) -> None:
        """Let the next driver in; nothing happens when it is in already."""
        with contextlib.suppress(StaleDriver), _guard(self._folder):
            self._check_content()
            self._write(Holder(self.epoch, None, self._holder.since, time.time()))

    def _write(self, holder: Holder) -> None:
        _write(self._folder, holder)
        self._holder, self._seen = holder, _stamp(self._folder)

    def _check_content(self) -> None:
        now = read_holder(self._folder)
        if now is None or now.epoch != self.epoch or now.owner != self._holder.owner:
            raise StaleDriver(_replaced(self._folder, self.epoch, now))


def check_epoch(folder: Path, epoch: int) -> None:
    """Raise StaleDriver when the experiment folder ``folder`` has a newer driver than the one of ``epoch``.

    For ranks, before they rename a checkpoint into place: a rank can outlive its driver.
    """
    ledger = folder / "ledger"
    now = read_holder(ledger)
    if now is None or now.epoch > epoch:
        raise StaleDriver(_replaced(ledger, epoch, now))


def read_holder(folder: Path) -> Holder | None:
    """What the lock of the ledger folder ``folder`` says; None where there is none yet."""
    path = folder / "lock.json"
    try:
        data = json.loads(path.read_text())
        owner = None if data["owner"] is None else Process.from_json(data["owner"])
        return Holder(int(data["epoch"]), owner, float(data["since"]), float(data["renewed"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerDamaged(
            f"{path} does not read ({error}). If no driver works on this sweep, delete that file and start again"
        ) from error


def _write(folder: Path, holder: Holder) -> None:
    replace_whole(folder / "lock.json", json.dumps(asdict(holder), indent=1).encode(), durable=True)


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Changes whenever the lock file is replaced."""
    try:
        found = (folder / "lock.json").stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Only one process at a time looks at the lock and replaces it. The system frees it when the process dies."""
    descriptor = os.open(folder / "lock.guard", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_over(holder: Holder, owner: Process) -> bool:
    dead = owner.is_dead()
    if dead is None:  # clocks of two hosts differ by far less than the lease
        return time.time() - holder.renewed > LEASE_SECONDS
    return dead


def _who(folder: Path, holder: Holder, owner: Process) -> str:
    text = (
        f"another driver works on {folder.parent}: process {owner.pid} on {owner.host}, since {_clock(holder.since)}, "
        f"last sign of life {max(0.0, time.time() - holder.renewed):.0f} s ago. Wait until it is done, or stop it there"
    )
    if owner.is_dead() is None:
        text += f"; if it died, this command works from {_clock(holder.renewed + LEASE_SECONDS)} on"
    return text


def _replaced(folder: Path, epoch: int, now: Holder | None) -> str:
    if now is None:
        by = f"its lock file {folder / 'lock.json'} is gone"
    elif now.owner is None:
        by = f"it was given back (epoch {now.epoch})"
    else:
        by = f"process {now.owner.pid} on {now.owner.host} has it since {_clock(now.since)} (epoch {now.epoch})"
    return f"the driver of epoch {epoch} no longer owns {folder.parent}: {by}. Nothing more is written by the old one"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
