"""Free gangs, and who waits for them: in the order of asking, so that nobody is starved.

A trial that needs several gangs keeps those that become free until it has all, and nobody behind it takes one meanwhile
(it reserves, and does not race): it waits for the running trials, and for no later one.
"""

from __future__ import annotations

import asyncio
from collections import deque

from expflow.sweep.gang import Gang


class GangPool:
    """The free gangs of one sweep. Used in one event loop."""

    def __init__(self) -> None:
        self._free: deque[Gang] = deque()
        self._waiting: deque[tuple[int, asyncio.Future[list[Gang]]]] = deque()

    def put(self, gang: Gang) -> None:
        """Give a gang back, or in.

        Args:
            gang: A gang that has nothing to do.
        """
        self._free.append(gang)
        self._hand_out()

    async def take(self, count: int) -> list[Gang]:
        """Wait for gangs, behind all who asked before.

        Args:
            count: How many.
        """
        waiting: asyncio.Future[list[Gang]] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, waiting))
        self._hand_out()
        return await waiting

    def withdraw(self, gang: Gang) -> bool:
        """Take a gang out that nobody has; returns whether it was free.

        Args:
            gang: The gang.
        """
        if gang not in self._free:
            return False
        self._free.remove(gang)
        return True

    def _hand_out(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or len(self._free) >= self._waiting[0][0]):
            count, waiting = self._waiting.popleft()
            if not waiting.cancelled():
                waiting.set_result([self._free.popleft() for _ in range(count)])
