"""How long a slow or broken store is tried again, and the two ways in which a transfer can fail for now."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """When to try again. Waits double from ``first_wait`` up to ``longest_wait``, each cut by a random share of up to
    one half, so that many ranks do not come back at once. All times are in seconds.

    A transfer is given up after ``attempts`` in a row that brought no new byte, after ``in_all`` attempts, or once
    content that is not what the manifest says came ``wrong`` times. No byte for ``stall`` seconds, or fewer than
    ``slowest`` bytes a second over that time, counts as a broken connection.
    """

    attempts: int = 8
    in_all: int = 100
    wrong: int = 2
    first_wait: float = 0.2
    longest_wait: float = 30.0
    connect: float = 10.0
    stall: float = 30.0
    slowest: int = 1024
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def wait(self, failures: int, asked: float | None = None) -> None:
        """Wait after the ``failures``-th failure in a row; ``asked`` is what the server wants (Retry-After)."""
        own = min(self.longest_wait, self.first_wait * 2 ** min(failures - 1, 30)) * (1 - self.chance() / 2)
        self.sleep(max(own, min(asked or 0.0, self.longest_wait)))


class Passing(Exception):
    """A failure that may pass: worth another attempt. ``after`` is the wait that the server asked for, in seconds."""

    def __init__(self, message: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)


class Wrong(Exception):
    """What came is not what was asked for; what is there already must be thrown away before another attempt."""
