"""A few threads that make shards ready before they are asked for."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expflow.data.shards.manifest import ShardEntry

log = logging.getLogger(__name__)

THREADS = 4
MAX_QUEUED = 64
"""Shards that may wait for a thread; more are not prefetched, and are fetched when they are held."""
IDLE_SECONDS = 5.0
"""After this long without work a thread ends."""


class ShardPrefetcher:
    """Makes shards ready in background threads.

    The threads are daemons: a transfer must not keep a finished process alive.

    Args:
        make_ready: Fetches or reads one shard; may run in several threads at once.
    """

    def __init__(self, make_ready: Callable[[ShardEntry], None]) -> None:
        self._make_ready = make_ready
        self._queue: queue.Queue[ShardEntry] = queue.Queue(MAX_QUEUED)
        self._guard = threading.Lock()
        self._pending: set[str] = set()
        self._threads = 0

    def add(self, shard: ShardEntry) -> None:
        """Queue a shard, unless it is queued or under way already or the queue is full.

        Args:
            shard: The manifest's entry of the shard.
        """
        with self._guard:
            if shard.sha256 in self._pending or self._queue.full():
                return
            self._pending.add(shard.sha256)
            self._queue.put_nowait(shard)
            if self._threads < min(THREADS, len(self._pending)):
                self._threads += 1
                threading.Thread(target=self._work, name="expflow-prefetch", daemon=True).start()

    def clear(self) -> None:
        """Forget the shards that are queued."""
        while True:
            try:
                shard = self._queue.get_nowait()
            except queue.Empty:
                return
            self._done(shard)

    def _work(self) -> None:
        while True:
            try:
                shard = self._queue.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._guard:
                    if self._queue.empty():
                        self._threads -= 1
                        return
                continue
            try:
                self._make_ready(shard)
            except Exception as error:  # noqa: BLE001 - it is raised again where the shard is held
                log.debug("reading ahead of %s failed: %s", shard.name, error)
            finally:
                self._done(shard)

    def _done(self, shard: ShardEntry) -> None:
        with self._guard:
            self._pending.discard(shard.sha256)
