"""A few threads that make shards ready before they are asked for."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expflow.data.manifest import Shard

log = logging.getLogger(__name__)

THREADS = 4
WAITING = 64
"""Shards that may wait for a thread; more are left to whoever holds them."""
IDLE_SECONDS = 5.0
"""After this long without work a thread ends."""


class Ahead:
    """Calls ``make_ready`` for shards in background threads.

    The threads are daemons: a transfer must not keep a finished process alive.
    """

    def __init__(self, make_ready: Callable[[Shard], None]) -> None:
        self._make_ready = make_ready
        self._queue: queue.Queue[Shard] = queue.Queue(WAITING)
        self._guard = threading.Lock()
        self._known: set[str] = set()
        self._threads = 0

    def add(self, shard: Shard) -> None:
        """Make ``shard`` ready some time, unless it is on its way or too many wait."""
        with self._guard:
            if shard.sha256 in self._known or self._queue.full():
                return
            self._known.add(shard.sha256)
            self._queue.put_nowait(shard)
            if self._threads < min(THREADS, len(self._known)):
                self._threads += 1
                threading.Thread(target=self._work, name="expflow-ahead", daemon=True).start()

    def clear(self) -> None:
        """Forget what waits."""
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
            except Exception as error:  # noqa: BLE001 - whoever holds the shard meets it again, and reports it
                log.debug("reading ahead of %s failed: %s", shard.name, error)
            finally:
                self._done(shard)

    def _done(self, shard: Shard) -> None:
        with self._guard:
            self._known.discard(shard.sha256)
