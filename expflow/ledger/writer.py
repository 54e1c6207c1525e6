"""Writing a ledger: append, and it is written; what cannot be undone is on the disk before ``append`` returns.

Every append is one ``write`` of one whole line, so a killed process leaves whole lines and at most one torn last one.
A segment that has grown large or old is sealed, and the ledger goes on in the next one, so that a copy of the sealed
ones is never far behind. A small thread syncs what is written to the disk within a second and renews the lock's lease.
The thread keeps no data of its own: when it dies with the process, only the last second before a *power cut* is at
risk, since what was written survives the death of the process.
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
from typing import Any, Protocol

from expflow.errors import StaleDriver, StorageUnwritable
from expflow.events import (
    CheckpointPruned,
    DriverStopped,
    Event,
    SchedulerDecided,
    SplitEvaluated,
    TrialEnded,
    TrialForked,
    TrialProposed,
    TrialReported,
)
from expflow.ledger.header import Continuation, Header
from expflow.ledger.ledger_clock import LedgerClock
from expflow.ledger.lock import DriverLock
from expflow.ledger.reader import first_line, last_epoch, last_time, segments_of
from expflow.ledger.records import Line, Record, encode
from expflow.ledger.seal import DigestCounter, SegmentDigest
from expflow.ledger.segments import LocalSegments
from expflow.redaction import redacted_fields

DURABLE: tuple[type[Event], ...] = (
    TrialProposed,
    SchedulerDecided,
    TrialForked,
    TrialEnded,
    SplitEvaluated,
    CheckpointPruned,
    DriverStopped,
)
"""What cannot be undone once it is acted on, and is therefore on the disk first."""

SEGMENT_BYTES = 16 * 2**20
"""Size from which on a segment is sealed and the next one begun."""

SEGMENT_SECONDS = 600.0
"""Age from which on a segment is sealed and the next one begun, with the next event."""

SYNC_SECONDS = 0.5
"""How often what is written is brought to the disk; half of the second that is promised."""


class Replica(Protocol):
    """A copy of the ledger elsewhere, which is kept up to date beside the driver."""

    def check(self) -> None:
        """Raise StaleDriver where another driver has taken over there."""

    def recorded(self, event: Event) -> None:
        """Called when an event is in the file; waits where it must not be acted on before the copy has it.

        Args:
            event: The event.
        """


class Ledger:
    """The one writer of an experiment's ledger. Safe to use from several threads.

    Begin with :meth:`open`, end with :meth:`close`. Used as a context manager it closes as ``finished``, or as
    ``error`` when the block raised and did not close it itself.

    Args:
        lock: The lock that this process has taken.
        segments: Where segments lie.
        number: The number of the segment that is begun.
        header: The header that the segment begins with.
        at: When the newest record before it was written (unix seconds).
        replica: The copy elsewhere; None: there is none.
    """

    def __init__(
        self,
        lock: DriverLock,
        segments: LocalSegments,
        number: int,
        header: Header,
        at: float,
        replica: Replica | None = None,
    ) -> None:
        self.header, self._replica = header, replica
        self._lock, self._segments, self._number = lock, segments, number
        self._clock = LedgerClock(at)
        self._first: Line = header
        self._mutex = threading.RLock()
        self._dirty, self._closed = False, False
        self._failed: Exception | None = None
        self._checked = 0.0
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="ledger-keeper", daemon=True)
        self._begin_segment(number)

    @classmethod
    def open(cls, folder: Path, header: Header, *, at_least: int = 1, replica: Replica | None = None) -> Ledger:
        """Become the driver of an experiment and begin a new segment.

        Args:
            folder: The experiment's folder.
            header: What the driver was asked to do; its ``driver`` is filled in.
            at_least: The smallest epoch to take.
            replica: The copy of the ledger elsewhere; None: there is none.

        Raises:
            LedgerLocked: Another driver lives.
            LedgerDamaged: What is there does not read.
            StorageUnwritable: Nothing can be written.
        """
        try:
            return cls._open(folder, header, at_least, replica)
        except OSError as error:
            raise _unwritable(folder, error) from error

    @classmethod
    def _open(cls, folder: Path, header: Header, at_least: int, replica: Replica | None) -> Ledger:
        segments = segments_of(folder)
        # Were the lock file lost, the ledger still knows below which epoch not to begin.
        lock = DriverLock.take(segments.folder, at_least=max(at_least, last_epoch(folder) + 1))
        try:
            before = _seal_all(segments)
            driver = {"epoch": lock.epoch, "host": lock.owner.host, "pid": lock.owner.pid}
            header = replace(header, driver=driver, before=tuple(digest.to_json() for digest in before))
            header = redacted_fields(header)
            ledger = cls(lock, segments, len(segments.numbers()) + 1, header, last_time(folder), replica)
        except BaseException:
            lock.give_back()
            raise
        try:
            ledger._write(header, durable=True)
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
        """Write an event; it is in the file when this returns, and on the disk if ``durable``.

        Args:
            event: The event. What is secret in it is left out.
            durable: Whether it is on the disk when this returns; by default what :data:`DURABLE` says of it.

        Returns:
            What was written.

        Raises:
            StaleDriver: Another driver took over.
            StorageUnwritable: The disk is full. The ledger stays readable, and goes on once there is room.
        """
        durable = isinstance(event, DURABLE) if durable is None else durable
        if not isinstance(event, TrialReported):  # it holds numbers alone, and comes often
            event = redacted_fields(event)
        with self._mutex:
            self._check(now=durable)
            if self._offset >= SEGMENT_BYTES or time.monotonic() - self._begun >= SEGMENT_SECONDS:
                self._rotate()
            if self._line == 0:  # also after an earlier try to begin the segment met a full disk
                self._write(self._first, durable=True)
            at = self._write(event, durable)
            record = Record(self._number, self._line, at, event, self._offset)
        if self._replica is not None:
            self._replica.recorded(event)
        return record

    def sync(self) -> None:
        """Bring everything that was appended to the disk.

        Raises:
            StorageUnwritable: The disk refuses.
        """
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
        """Write :class:`~expflow.events.DriverStopped`, seal the segment and give the lock back. Twice is harmless.

        Args:
            reason: ``finished``, ``interrupted`` or ``error``.
            details: Plain data that the event holds besides.
        """
        if self._closed:
            return
        try:
            self.append(DriverStopped(reason, details or {}))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop without writing an event, as a killed driver would, but give the lock back."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            # On a full disk neither can be written; then the next driver seals, and the end of this process frees the
            # lock. What another driver has taken over is sealed by it, and a segment with half a line as well.
            with contextlib.suppress(OSError):
                if self._failed is None:
                    os.fsync(self._descriptor)
                    self._segments.seal(self._number, self._counter.digest())
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
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
        if self._replica is not None:
            self._ask(self._replica.check)
        clock = time.monotonic()
        if now or clock - self._checked > 1.0:
            self._ask(self._lock.check)
            self._checked = clock

    def _ask(self, question: Callable[[], None]) -> None:
        """Ask the lock whether this driver still owns the ledger; once it refuses, it refuses for good."""
        try:
            question()
        except StaleDriver as error:
            self._failed = error
            raise
        except OSError as error:
            raise _unwritable(self._segments.folder, error) from error

    def _begin_segment(self, number: int) -> None:
        self._descriptor = self._segments.create(number)
        self._number, self._line, self._offset = number, 0, 0
        self._begun = time.monotonic()
        self._counter = DigestCounter(number)

    def _rotate(self) -> None:
        """Seal the segment and go on in the next one. Where that fails nothing is lost: the next append tries again, or
        the next driver goes on."""
        self.sync()
        try:
            digest = self._segments.seal(self._number, self._counter.digest())
            complete = self._descriptor
            self._begin_segment(self._number + 1)
            os.close(complete)
        except OSError as error:
            raise _unwritable(self._segments.folder, error) from error
        self._first = Continuation(self.epoch, (digest.to_json(),))

    def _write(self, body: Line, durable: bool) -> float:
        """Write a line; when it was written, in unix seconds."""
        at = self._clock.now()
        line = encode(at, self._line + 1, body)
        self._put(line)
        self._dirty = True
        self._counter.add(line)
        self._line, self._offset = self._line + 1, self._offset + len(line)
        if durable:
            self.sync()
        return round(at, 6)

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


def _seal_all(segments: LocalSegments) -> list[SegmentDigest]:
    """Seal what earlier drivers left open, or wrote in format 1; the digests that no header holds yet."""
    numbers = segments.numbers()
    digests = [segments.seal(number) for number in numbers]
    firsts = [first for number in numbers if (first := first_line(segments, number)) is not None]
    recorded = {int(entry["segment"]) for first in firsts for entry in first.before}
    return [digest for digest in digests if digest.segment not in recorded]


def _unwritable(path: Path, error: OSError) -> StorageUnwritable:
    return StorageUnwritable(
        f"{path} cannot be written: {error.strerror or error}. What was recorded before is intact; make room (or mend "
        "the disk or its permissions), then give the same command again to continue"
    )
