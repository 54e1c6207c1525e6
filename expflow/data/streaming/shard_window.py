"""The shards of the window in use and of the next: opened by threads of their own, held until no batch needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Generic, TypeVar

from expflow.data.streaming.batch_prefetcher import POLL_SECONDS, PassStopped, StopFlag
from expflow.data.streaming.thread_pool import ThreadPool

OpenedShard = TypeVar("OpenedShard")


class _WindowSlot(Generic[OpenedShard]):
    """One shard: being opened, open, failed, or released."""

    def __init__(self) -> None:
        self.ready, self.lock, self.stack = threading.Event(), threading.Lock(), ExitStack()
        self.shard: OpenedShard | None = None
        self.error: BaseException | None = None
        self.released = False


class ShardWindow(Generic[OpenedShard]):
    """Holds open shards by number.

    Args:
        open_shard: Opens the shard of a number for as long as its context lasts.
        pool: The threads that open shards.
        flag: Raised when nothing is needed any more.
    """

    def __init__(
        self, open_shard: Callable[[int], AbstractContextManager[OpenedShard]], pool: ThreadPool, flag: StopFlag
    ) -> None:
        self._open_shard, self._pool, self._flag = open_shard, pool, flag
        self._slots: dict[int, _WindowSlot[OpenedShard]] = {}

    def request(self, numbers: Iterable[int]) -> None:
        """Begin to open shards, in this order, unless they were requested before.

        Args:
            numbers: The shards' numbers.
        """
        for number in numbers:
            if number not in self._slots:
                slot = self._slots[number] = _WindowSlot()
                self._pool.submit(partial(self._open, number, slot))

    def get(self, number: int) -> OpenedShard:
        """A requested shard, as soon as it is open. An error of opening it is raised here.

        Args:
            number: The shard's number.

        Raises:
            PassStopped: The flag was raised.
        """
        slot = self._slots[number]
        while not slot.ready.wait(POLL_SECONDS):
            if self._flag.raised:
                raise PassStopped
        if slot.shard is None:
            raise slot.error or PassStopped
        return slot.shard

    def release(self, numbers: Iterable[int]) -> None:
        """Close shards that no thread reads any more.

        Args:
            numbers: The shards' numbers; those that were not requested are ignored.
        """
        for number in numbers:
            if (slot := self._slots.pop(number, None)) is not None:
                _release(slot)

    def close(self) -> None:
        """Close all shards."""
        self.release(list(self._slots))

    def _open(self, number: int, slot: _WindowSlot[OpenedShard]) -> None:
        try:
            if not self._flag.raised and not slot.released:
                slot.shard = slot.stack.enter_context(self._open_shard(number))
        except BaseException as error:  # noqa: BLE001 - it is raised where the shard is read
            slot.error = error
        slot.ready.set()
        if slot.released:
            _release(slot)


def _release(slot: _WindowSlot[OpenedShard]) -> None:
    """Close one shard: now, or when opening it ends."""
    slot.released = True
    if slot.ready.is_set():
        with slot.lock:
            slot.shard = None
            slot.stack.close()
