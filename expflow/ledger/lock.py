"""The lock of a ledger: one driver at a time works on a sweep, and a dead driver's lock is taken over.

``lock.json`` names the owner (host, process id, start time of the process), its epoch and the time of its last renewal.
Taking, renewing and giving back happen under a short flock of a file beside it and replace the file in one rename, so
no reader sees half of it. A lock is taken over only when its owner is provably dead: on the same machine when no such
process runs any more, from elsewhere when its lease ran out. Every taking raises the epoch, which is never lowered
again, also not when a lock is given back: a holder of an older epoch is refused.

How long ago a lease was renewed is told by the times of two files, which are those of the one server that both machines
write to: the clocks of the machines may differ by minutes.
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
from expflow.field_types import check_field_types
from expflow.files import write_atomically
from expflow.ledger.process_identity import ProcessIdentity

LEASE_SECONDS = 600.0
"""How long an owner on another host may leave its lease unrenewed before its lock is taken over."""
RENEW_SECONDS = 30.0
"""How often an owner renews its lease."""


@dataclass(frozen=True)
class LockHolder:
    """What ``lock.json`` says. ``owner`` is None when the lock is free; times are unix seconds."""

    epoch: int
    owner: ProcessIdentity | None
    since: float
    renewed: float


class DriverLock:
    """The lock of one ledger folder, held by this process since :meth:`take`.

    Args:
        folder: The ledger's folder.
        holder: What ``lock.json`` says of this process.
    """

    def __init__(self, folder: Path, holder: LockHolder) -> None:
        self._folder = folder
        self._holder = holder
        self._seen = _stamp(folder)
        self._renewed = time.monotonic()

    @property
    def epoch(self) -> int:
        """The number of this taking; greater than all before."""
        return self._holder.epoch

    @property
    def owner(self) -> ProcessIdentity:
        """This process.

        Raises:
            StaleDriver: The lock was given back.
        """
        if self._holder.owner is None:
            raise StaleDriver("this lock was given back")
        return self._holder.owner

    @classmethod
    def take(cls, folder: Path, *, at_least: int = 1) -> DriverLock:
        """Become the owner of a ledger folder.

        Args:
            folder: The ledger's folder; made where it does not exist.
            at_least: The smallest epoch to take; it is also greater than all before.

        Raises:
            LedgerLocked: Its owner lives or may live; the message names the owner.
            LedgerDamaged: The lock file does not read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with _guard(folder) as guard:
            before = read_holder(folder)
            if before is not None and before.owner is not None:
                age = _age(folder, guard)
                if not _is_over(before.owner, age):
                    raise LedgerLocked(_who(folder, before, before.owner, age))
            now = time.time()
            epoch = max(at_least, before.epoch + 1 if before else 1)
            holder = LockHolder(epoch, ProcessIdentity.current(), since=now, renewed=now)
            _write(folder, holder)
            return cls(folder, holder)

    def check(self) -> None:
        """Check that this process still owns the lock. Costs one ``stat`` while nothing changed.

        Raises:
            StaleDriver: Another driver took over.
        """
        if _stamp(self._folder) == self._seen:
            return
        with _guard(self._folder):
            self._check_content()
            self._seen = _stamp(self._folder)

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            StaleDriver: Another driver took over.
        """
        with _guard(self._folder):
            self._check_content()
            self._write(LockHolder(self.epoch, self.owner, self._holder.since, time.time()))

    def is_due(self) -> bool:
        """Whether it is time to renew."""
        return time.monotonic() - self._renewed >= RENEW_SECONDS

    def give_back(self) -> None:
        """Free the lock for the next driver; nothing happens when another driver has it already."""
        with contextlib.suppress(StaleDriver), _guard(self._folder):
            self._check_content()
            self._write(LockHolder(self.epoch, None, self._holder.since, time.time()))

    def _write(self, holder: LockHolder) -> None:
        _write(self._folder, holder)
        self._holder, self._seen, self._renewed = holder, _stamp(self._folder), time.monotonic()

    def _check_content(self) -> None:
        now = read_holder(self._folder)
        if now is None or now.epoch != self.epoch or now.owner != self._holder.owner:
            raise StaleDriver(_replaced(self._folder, self.epoch, now))


def check_epoch(folder: Path, epoch: int) -> None:
    """Refuse a rank whose driver was replaced: a rank can outlive its driver. Called before a checkpoint is renamed
    into place.

    Args:
        folder: The experiment's folder.
        epoch: The epoch of the rank's driver.

    Raises:
        StaleDriver: A newer driver owns the ledger.
    """
    ledger = folder / "ledger"
    now = read_holder(ledger)
    if now is None or now.epoch > epoch:
        raise StaleDriver(_replaced(ledger, epoch, now))


def read_holder(folder: Path) -> LockHolder | None:
    """The holder that the lock file names; None where there is no lock file yet.

    Args:
        folder: The ledger's folder.

    Raises:
        LedgerDamaged: The lock file does not read.
    """
    path = folder / "lock.json"
    try:
        data = json.loads(path.read_text())
        owner = None if data["owner"] is None else ProcessIdentity.from_json(data["owner"])
        check_field_types(LockHolder, {**data, "owner": owner})
        return LockHolder(data["epoch"], owner, data["since"], data["renewed"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LedgerDamaged(
            f"{path} does not read ({error}). If no driver works on this sweep, delete that file and start again"
        ) from error


def _write(folder: Path, holder: LockHolder) -> None:
    write_atomically(folder / "lock.json", json.dumps(asdict(holder), indent=1).encode(), durable=True)


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Changes whenever the lock file is replaced."""
    try:
        status = (folder / "lock.json").stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[int]:
    """Only one process at a time reads the lock and replaces it. The system releases it when the process dies.

    Yields:
        The descriptor of the file that is locked.
    """
    descriptor = os.open(folder / "lock.guard", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _age(folder: Path, guard: int) -> float:
    """Seconds since the lock was written, by the clock of whatever holds the files: it is asked to note the present
    time on the one that is locked (``utime`` without a time)."""
    os.utime(guard)
    return os.fstat(guard).st_mtime - (folder / "lock.json").stat().st_mtime


def _is_over(owner: ProcessIdentity, age: float) -> bool:
    dead = owner.is_dead()
    return age > LEASE_SECONDS if dead is None else dead


def _who(folder: Path, holder: LockHolder, owner: ProcessIdentity, age: float) -> str:
    text = (
        f"another driver works on {folder.parent}: process {owner.pid} on {owner.host}, since {_clock(holder.since)}, "
        f"last sign of life {max(0.0, age):.0f} s ago. Wait until it is done, or stop it there"
    )
    if owner.is_dead() is None:
        text += f"; if it died, this command works in {max(1.0, LEASE_SECONDS - age):.0f} s"
    return text


def _replaced(folder: Path, epoch: int, now: LockHolder | None) -> str:
    if now is None:
        by = f"its lock file {folder / 'lock.json'} is gone"
    elif now.owner is None:
        by = f"it was given back (epoch {now.epoch})"
    else:
        by = f"process {now.owner.pid} on {now.owner.host} has it since {_clock(now.since)} (epoch {now.epoch})"
    return f"the driver of epoch {epoch} no longer owns {folder.parent}: {by}. Nothing more is written by the old one"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
