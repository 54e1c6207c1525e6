"""Nodes that Ray has been told to take away, as of spot machines, with the time until then.

Ray's public interface says so only when a node is gone, which is too late to save. Its client of the head, of which Ray
Serve uses the same method, is the one private name here; without it, nothing is known beforehand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ray

LOOK_SECONDS = 2.0
"""How often Ray is asked."""
ASK_SECONDS = 5
"""How long an answer may take."""


class DrainingNodes:
    """Asks Ray's head which nodes are to go.

    Args:
        address: Of the head (``gcs_address``).
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = None

    def ids(self) -> frozenset[str]:
        """Ray's ids of the nodes that are to go; none where Ray does not say."""
        try:
            self._client = self._client or ray._raylet.GcsClient(address=self._address)  # type: ignore[attr-defined]
            return frozenset(self._client.get_draining_nodes(timeout=ASK_SECONDS))
        except Exception:  # noqa: BLE001  whatever a private name raises in another version: nothing is known
            return frozenset()

    async def watch(self, on_nodes: Callable[[frozenset[str]], None]) -> None:
        """Call something with the nodes that are to go, again and again while there are any, until cancelled.

        Args:
            on_nodes: Called in the event loop.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if nodes := await asyncio.to_thread(self.ids):
                on_nodes(nodes)
