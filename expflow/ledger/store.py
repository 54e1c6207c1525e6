"""Writing a ledger: append, and it is written; what cannot be undone is on the disk before ``append`` returns.

Every append is one ``write`` of one whole line, so a killed process leaves whole lines and at most one torn last one.
The disk is made to hold the others within a second by a small thread, which also renews the lock's lease. The thread
keeps nothing of its own: when it dies with the process, only the last second before a *power cut* is at risk, since
what was written survives the death of the process.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from expflow.errors import StaleDriver, StorageUnwritable
from expflow.events import Decided, DriverStopped, Event, Forked, Looked, Proposed, TrialEnded
from expflow.ledger.header import Header
from expflow.ledger.lock import Lock, check_epoch
from expflow.ledger.reader import exists, last_epoch, last_time, load, read, segments_of
from expflow.ledger.records import Cursor, Record, Torn, encode
from expflow.ledger.segments import LocalSegments

__all__ = ["Cursor", "Ledger", "Record", "Torn", "check_epoch", "exists", "load", "read"]

DURABLE: tuple[type[Event], ...] = (Proposed, Decided, Forked, TrialEnded, Looked, DriverStopped)
"""What cannot be undone once it is acted on, and is therefore on the disk first."""

SYNC_SECONDS = 0.5
"""How often what is written is brought to the disk; half of the second that is promised."""


class Ledger:
    """The one writer of an experiment's ledger. Safe to use from several threads.

    Begin with :meth:`open`, end with :meth:`close`. Used as a context manager it closes as ``finished``, or as
    ``error`` when the block raised and did not close it itself.
    """

    def __init__(self, lock: Lock, segments: LocalSegments, number: int, header: Header, at: float) -> None:
        self.header = header
        self._lock, self._segments, self._number = lock, segments, number
        self._at, self._line, self._offset = at, 0, 0
        self._mutex = threading.RLock()
        self._dirty, self._closed = False, False
        self._failed: Exception | None = None
        self._checked = 0.0
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="ledger-keeper", daemon=True)
        self._descriptor = segments.create(number)

    @classmethod
    def open(cls, folder: Path, header: Header) -> Ledger:
        """Become the driver of the experiment folder ``folder`` and begin a new segment with ``header``.

        ``header.driver`` is filled in. Raises LedgerLocked while another driver lives, LedgerDamaged where what is
        there does not read, StorageUnwritable where nothing can be written.
        """
        try:
            return cls._open(folder, header)
        except OSError as error:
            raise _unwritable(folder, error) from error

    @classmethod
    def _open(cls, folder: Path, header: Header) -> Ledger:
        segments = segments_of(folder)
        # Were the lock file lost, the ledger still knows below which epoch not to begin.
        lock = Lock.take(segments.folder, at_least=last_epoch(folder) + 1)
        try:
            numbers = segments.numbers()
            for number in numbers:
                segments.seal(number)
            driver = {"epoch": lock.epoch, "host": lock.owner.host, "pid": lock.owner.pid}
            ledger = cls(lock, segments, len(numbers) + 1, replace(header, driver=driver), last_time(folder))
        except BaseException:
            lock.give_back()
            raise
        try:
            ledger._write(ledger.header, durable=True)
        except BaseException:
            ledger.abandon()
            raise
        ledger._keeper.start()
        return ledger

    @property
    def epoch(self) -> int:
        """This driver's epoch; ranks pass it to :func:`check_epoch`."""
        return self._lock.epoch

    def append(self, event: Event, *, durable: bool | None = None) -> Record:
        """Write ``event``; it is in the file when this returns, and on the disk if ``durable``.

        ``durable`` is by default what :data:`DURABLE` says of the event. Raises StaleDriver when another driver took
        over, StorageUnwritable when the disk is full (the ledger stays readable, and goes on once there is room).
        """
        durable = isinstance(event, DURABLE) if durable is None else durable
        with self._mutex:
            self._check(now=durable)
            return self._write(event, durable)

    def sync(self) -> None:
        """Bring everything that was appended to the disk. Raises StorageUnwritable when the disk refuses."""
        with self._mutex:
            if self._dirty and not self._closed:
                try:
                    os.fsync(self._descriptor)
                except OSError as error:
                    # After a failed fsync nobody knows what the disk holds, so nothing more may be built on it.
                    self._failed = _unwritable(self._segments.path(self._number), error)
                    raise self._failed from error
                self._dirty = False

    def close(self, reason: str, details: dict[str, Any] | None = None) -> None:
        """Write :class:`~expflow.events.DriverStopped`, seal the segment and give the lock back. Twice is harmless."""
        if self._closed:
            return
        try:
            self.append(DriverStopped(reason, details or {}))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop without a word in the ledger, as a killed driver would, but give the lock back."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            os.close(self._descriptor)
            # On a full disk the lock cannot be given back in writing; then the end of this process frees it.
            with contextlib.suppress(OSError):
                self._segments.seal(self._number)
                self._lock.give_back()
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join(timeout=5.0)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, StaleDriver):
            self.abandon()
        else:
            self.close("finished" if kind is None else "error")

    def _check(self, *, now: bool) -> None:
        if self._failed is not None:
            raise self._failed
        if self._closed:
            raise StaleDriver(f"{self._segments.path(self._number)} is closed; nothing more can be written to it")
        clock = time.monotonic()
        if now or clock - self._checked > 1.0:
            self._ask(self._lock.check)
            self._checked = clock

    def _ask(self, question: Callable[[], None]) -> None:
        """Ask the lock whether this driver still owns the ledger; once it says no, that stays so."""
        try:
            question()
        except StaleDriver as error:
            self._failed = error
            raise
        except OSError as error:
            raise _unwritable(self._segments.folder, error) from error

    def _write(self, body: Header | Event, durable: bool) -> Record:
        self._at = max(self._at, time.time())  # a clock that is set back must not reorder history
        line = encode(self._at, body)
        self._put(line)
        self._dirty = True
        self._line, self._offset = self._line + 1, self._offset + len(line)
        if durable:
            self.sync()
        return Record(self._number, self._line, round(self._at, 6), body, self._offset)

    def _put(self, line: bytes) -> None:
        """Write the whole line or nothing."""
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            problem = _unwritable(self._segments.path(self._number), error)
            try:
                os.ftruncate(self._descriptor, self._offset)
            except OSError:  # half a line stays, so this segment can have no further one
                self._failed = problem
            raise problem from error

    def _keep(self) -> None:
        """The thread: sync what is written, renew the lease. A failure is raised by the next append."""
        while not self._stop.wait(SYNC_SECONDS):
            # What goes wrong for good is kept in self._failed, and raised where somebody can act on it.
            with self._mutex, contextlib.suppress(StorageUnwritable, StaleDriver):
                if self._closed or self._failed is not None:
                    return
                self.sync()
                if self._lock.is_due():
                    self._ask(self._lock.renew)


def _unwritable(path: Path, error: OSError) -> StorageUnwritable:
    return StorageUnwritable(
        f"{path} cannot be written: {error.strerror or error}. What was recorded before is intact; make room (or mend "
        "the disk or its permissions), then give the same command again to continue"
    )
