"""Nodes that join a cluster while a sweep runs there: their room is used."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

LOOK_SECONDS = 3.0
"""How often the cluster is counted."""


class ClusterGrowth:
    """Has the dispatcher make gangs for nodes that joined. What a lost node held is never taken off: its gangs wait,
    and go to whatever joins next.

    Args:
        dispatcher: Ray's handle of the dispatcher.
        gangs: Gangs that there are.
        room: Returns how many the cluster holds now.
        on_slots: Called with their number when it has grown.
    """

    def __init__(self, dispatcher: Any, gangs: int, room: Callable[[], int], on_slots: Callable[[int], None]) -> None:
        self._dispatcher, self._gangs, self._room, self._on_slots = dispatcher, gangs, room, on_slots
        self._looked = time.monotonic()

    def look(self) -> int:
        """How many gangs have come since the last call; the cluster is asked every few seconds."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return 0
        self._looked = now
        more = 0
        with suppress(ray.exceptions.RayError):  # what is lost is noticed elsewhere
            more = max(0, self._room() - self._gangs)
        if more:
            self._gangs += more
            self._dispatcher.grow.remote(more)
            self._on_slots(self._gangs)
        return more
