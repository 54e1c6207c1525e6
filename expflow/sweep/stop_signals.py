"""SIGINT and SIGTERM while a sweep runs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

from expflow.sweep.conductor import Conductor


@contextlib.contextmanager
def signals_noted(conductor: Conductor) -> Iterator[None]:
    """While open, the first SIGINT or SIGTERM ends the work in good order, a second one at once.

    Args:
        conductor: Gets the number of the first signal, and hands out nothing more.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if conductor.interrupted_by is not None:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)
        conductor.interrupted_by, conductor.interrupted_at = number, time.monotonic()
        # Not print: a signal may come in the middle of one.
        os.write(2, b"\nstopping; what is finished is kept (again: at once)\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
