"""The time that a driver's records bear: the clock is read once, and what follows is measured.

A driver may go on where one on another machine stopped, whose clock is minutes ahead; and a clock may be set while a
sweep runs. Differences between the times of one driver's records count what was spent, so they come from a clock that
cannot be set, and the first of them is later than all that other drivers wrote.
"""

from __future__ import annotations

import time

LEAST_STEP = 1e-3
"""Seconds by which a driver's first record is later than the last one of the driver before it."""


class LedgerClock:
    """Unix seconds that never go back.

    Args:
        last: The time of the newest record that there is (unix seconds); 0.0 without one.
    """

    def __init__(self, last: float = 0.0) -> None:
        self._offset = max(time.time(), last + LEAST_STEP if last else 0.0) - _elapsed()

    def now(self) -> float:
        """The time of a record that is written now."""
        return self._offset + _elapsed()


def _elapsed() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))  # the first is Linux's
