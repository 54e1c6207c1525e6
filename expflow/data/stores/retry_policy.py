"""How long a slow or broken store is tried again, and the two kinds of failure that another attempt may cure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """When a transfer is tried again, and when it is given up. All times are in seconds.

    Waits between attempts double from ``first_wait`` up to ``longest_wait``. Each is cut by a random share of up to one
    half, so that many ranks do not come back at once.

    Attributes:
        attempts: Attempts in a row without a new byte after which a transfer is given up.
        total_attempts: Attempts in all after which it is given up.
        content_attempts: How often content that is not what the manifest says is fetched before it is given up.
        first_wait: Wait after the first failure.
        longest_wait: Upper limit of a wait, also of one that the server asks for.
        connect_timeout: How long a connection may take to be made.
        stall_timeout: Without a byte for this long, or with fewer than ``min_bytes_per_second`` over this time, a
            connection counts as broken.
        min_bytes_per_second: The slowest transfer that is waited for.
        jitter: Returns a random number in [0, 1): the share of one half by which a wait is cut.
        sleep: Waits for so many seconds.
        clock: Returns a time in seconds that never goes back.
    """

    attempts: int = 8
    total_attempts: int = 100
    content_attempts: int = 2
    first_wait: float = 0.2
    longest_wait: float = 30.0
    connect_timeout: float = 10.0
    stall_timeout: float = 30.0
    min_bytes_per_second: int = 1024
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def wait(self, failures: int, retry_after: float | None = None) -> None:
        """Wait before the next attempt.

        Args:
            failures: How many attempts in a row have failed, at least 1.
            retry_after: The wait in seconds that the server asked for (Retry-After), if any.
        """
        own_wait = min(self.longest_wait, self.first_wait * 2 ** min(failures - 1, 30)) * (1 - self.jitter() / 2)
        self.sleep(max(own_wait, min(retry_after or 0.0, self.longest_wait)))


class TransientFailure(Exception):
    """A failure that may pass: worth another attempt.

    Args:
        message: What went wrong.
        retry_after: The wait in seconds that the server asked for, if any.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class UnexpectedContent(Exception):
    """What came is not what was asked for; what is there already must be thrown away before another attempt."""
