"""SIGINT and SIGTERM while a sweep runs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from expflow.sweep.conductor import Conductor

STOP_SECONDS = 11.0
"""How long after a signal the work is waited for. Trials that hang would never end it, and on a machine that is
overloaded the way to the ranks of a sweep and back may take longer than they have; what is left of 15 s is for closing
the ledger and ending the process."""

_AGAIN_SECONDS = 3.0
_WRITER = "expflow.ledger.writer"


class StoppedLate(BaseException):
    """Work on the main thread has not ended :data:`STOP_SECONDS` after a signal. No error, so that nobody takes it for
    one of their own."""


def stopped_long_ago(since: float) -> bool:
    """Whether work that was told to stop is waited for no longer.

    Args:
        since: When it was told, by a monotonic clock.
    """
    return time.monotonic() - since > STOP_SECONDS


@contextlib.contextmanager
def signals_noted(conductor: Conductor, *, raises: bool = False) -> Iterator[None]:
    """While open, the first SIGINT or SIGTERM ends the work in good order, a second one at once.

    Args:
        conductor: Gets the number of the first signal, and hands out nothing more.
        raises: Whether the work runs on this thread, and is left by an exception where it does not end in time.

    Raises:
        StoppedLate: It has not; only with ``raises``.
    """
    reminder = _Reminder()

    def handle(number: int, frame: FrameType | None) -> None:
        if reminder.sent:
            reminder.sent = False
            if reminder.stopped or _writes_ledger(frame):
                return
            raise StoppedLate
        if conductor.interrupted_by is not None:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)
        conductor.interrupted_by, conductor.interrupted_at = number, time.monotonic()
        if raises:
            reminder.start(number)
        # Not print: a signal may come in the middle of one.
        os.write(2, b"\nstopping; what is finished is kept (again: at once)\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        reminder.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _writes_ledger(frame: FrameType | None) -> bool:
    """Whether a line is just being written, which must not be left half done."""
    while frame is not None and frame.f_globals.get("__name__") != _WRITER:
        frame = frame.f_back
    return frame is not None


class _Reminder:
    """Sends the main thread the signal again, which wakes it from whatever it waits for."""

    def __init__(self) -> None:
        self.sent = False
        """Whether the signal that is being handled is this one's, and no second one from outside."""
        self.stopped = False
        """Whether the work has ended, so that nothing is to be left any more."""
        self._over, self._mutex = threading.Event(), threading.Lock()

    def start(self, number: int) -> None:
        """Begin to wait.

        Args:
            number: The signal that is sent.
        """
        threading.Thread(target=self._remind, args=(number,), name="stop-reminder", daemon=True).start()

    def stop(self) -> None:
        """Send nothing more."""
        self.stopped = True
        with self._mutex:  # what was sent before is handled with the handlers that are in place now
            self._over.set()

    def _remind(self, number: int) -> None:
        wait = STOP_SECONDS
        main = threading.main_thread().ident
        while main is not None and not self._over.wait(wait):
            with self._mutex:
                if not self._over.is_set():
                    self.sent = True
                    signal.pthread_kill(main, number)
            wait = _AGAIN_SECONDS
