"""A folder of shards on another machine: its shards come into the cache, or into memory where there is none."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.data.stores.address import HTTP, Address
from expflow.data.stores.download_buffer import DownloadBuffer
from expflow.data.stores.locks import KeyedLocks
from expflow.data.stores.open_shard import OpenShard, memory_mapped
from expflow.data.stores.retry_policy import RetryPolicy
from expflow.data.stores.root import LARGEST_SMALL_FILE, Root
from expflow.data.stores.shard_cache import ShardCache
from expflow.data.stores.shard_prefetcher import ShardPrefetcher
from expflow.data.stores.transfer import Transfer
from expflow.errors import DataMissing, DataUnreachable, StorageUnwritable

if TYPE_CHECKING:
    from expflow.data.shards.manifest import ShardEntry
    from expflow.data.stores.http import HttpSource
    from expflow.data.stores.object_store import ObjectSource

MAX_PREFETCHED_IN_MEMORY = 4
"""Prefetched shards that are kept in memory before they are held."""


@dataclass
class _ShardInMemory:
    """The bytes of a shard, and how many contexts hold it."""

    data: bytearray
    holders: int


class RemoteRoot(Root):
    """A folder at an HTTP server or in an object store.

    Args:
        location: Where the folder lies.
        cache: Where shards are kept; None keeps them in memory while they are used.
        retry_policy: When transfers are tried again.
    """

    def __init__(self, location: Address, cache: ShardCache | None, retry_policy: RetryPolicy) -> None:
        super().__init__(location)
        self._cache, self._policy = cache, retry_policy
        self._start()

    def _start(self) -> None:
        self._source: HttpSource | ObjectSource | None = None
        self._guard, self._shard_locks = threading.Lock(), KeyedLocks()
        self._in_memory: dict[str, _ShardInMemory] = {}
        self._prefetcher = ShardPrefetcher(self._make_ready)
        self._fetching, self._uncached = 0, self._cache is None

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self._location, "cache": self._cache, "retry_policy": self._policy}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._location, self._cache, self._policy = state["location"], state["cache"], state["retry_policy"]
        self._start()

    def read_bytes(self, name: str) -> bytes:
        """A small file, whole."""
        buffer = DownloadBuffer()
        self._transfer().fetch(name, buffer, most=LARGEST_SMALL_FILE)
        return bytes(buffer.content())

    def write_file(self, name: str, local_path: Path) -> None:
        """Put a copy of ``local_path`` at ``name``, and check it."""
        source = self._client()
        if self._location.scheme in HTTP:
            raise StorageUnwritable(f"{self.address}: HTTP addresses are only read; write to a folder or to s3://")
        try:
            self._transfer().call(name, lambda: source.upload(name, local_path))  # type: ignore[union-attr]
        except (DataUnreachable, DataMissing) as error:
            raise StorageUnwritable(f"cannot write {self._location.display_file(name)}: {error}") from error

    def exists(self, name: str) -> bool:
        """Whether there is a file ``name``."""
        source = self._client()
        return self._transfer().call(name, lambda: source.exists(name))

    def list(self) -> list[str]:
        """The names of the files in this folder."""
        source = self._client()
        if self._location.scheme in HTTP:
            raise DataUnreachable(f"{self.address}: HTTP has no folders to list; what is there stands in the manifest")
        return self._transfer().call("", lambda: source.names())  # type: ignore[union-attr]

    def download(self, name: str, path: Path) -> tuple[int, str]:
        """Copy the file ``name`` to ``path``; returns its size and sha256."""
        with path.open("wb+", buffering=0) as file:
            buffer = DownloadBuffer(file.fileno())
            self._transfer().fetch(name, buffer)
        if buffer.disk_error is not None:
            raise StorageUnwritable(f"{path}: cannot be written ({buffer.disk_error.strerror})")
        return buffer.size, buffer.sha256

    @contextmanager
    def hold(self, shard: ShardEntry) -> Iterator[OpenShard]:
        """The whole of ``shard``, verified."""
        content = self._acquire(shard)
        if isinstance(content, bytearray):
            try:
                yield OpenShard(memoryview(content).toreadonly(), None)
            finally:
                self._release(shard)
        else:
            path, handle = content
            try:
                with memory_mapped(path, handle, shard.bytes) as open_shard:
                    yield open_shard
            finally:
                # A mapping keeps a duplicate of the handle, and with it the lock, for as long as slices of it exist.
                fcntl.flock(handle, fcntl.LOCK_UN)
                os.close(handle)

    def prefetch(self, shard: ShardEntry) -> None:
        """Begin to make ``shard`` ready."""
        self._prefetcher.add(shard)

    def close(self) -> None:
        """End what runs in the background."""
        self._prefetcher.clear()
        with self._guard:
            if self._source is not None:
                self._source.close()
            self._source = None
            self._in_memory = {sha256: shard for sha256, shard in self._in_memory.items() if shard.holders}

    def _acquire(self, shard: ShardEntry) -> tuple[Path, int] | bytearray:
        """A handle on the shard's file in the cache, or its bytes, of which this call is then a holder."""
        with self._shard_locks.locked(shard.sha256):
            with self._guard:
                if in_memory := self._in_memory.get(shard.sha256):
                    in_memory.holders += 1
                    return in_memory.data
            content = self._fetch(shard)
            if isinstance(content, bytearray):
                with self._guard:
                    self._in_memory[shard.sha256] = _ShardInMemory(content, 1)
            return content

    def _release(self, shard: ShardEntry) -> None:
        with self._guard:
            in_memory = self._in_memory[shard.sha256]
            in_memory.holders -= 1
            if not in_memory.holders:
                del self._in_memory[shard.sha256]

    def _make_ready(self, shard: ShardEntry) -> None:
        """Fetch ``shard`` into the cache, or into memory for its first holder: there, only a few at a time."""
        with self._shard_locks.locked(shard.sha256):
            with self._guard:
                waiting = self._fetching + sum(not in_memory.holders for in_memory in self._in_memory.values())
                if shard.sha256 in self._in_memory or (self._uncached and waiting >= MAX_PREFETCHED_IN_MEMORY):
                    return
                self._fetching += 1
            content = None
            try:
                content = self._fetch(shard)
            finally:
                with self._guard:
                    self._fetching -= 1
                    if isinstance(content, bytearray):
                        self._in_memory[shard.sha256] = _ShardInMemory(content, 0)
            if not isinstance(content, bytearray):
                os.close(content[1])

    def _fetch(self, shard: ShardEntry) -> tuple[Path, int] | bytearray:
        transfer = self._transfer()
        if self._cache is not None:
            content = self._cache.acquire(shard, lambda buffer: transfer.fetch(shard.name, buffer, shard))
            self._uncached = isinstance(content, bytearray)
            return content
        buffer = DownloadBuffer()
        transfer.fetch(shard.name, buffer, shard)
        return buffer.content()

    def _transfer(self) -> Transfer:
        return Transfer(self._client(), self._policy)

    def _client(self) -> HttpSource | ObjectSource:
        """The store's client. Its libraries are imported here, not before."""
        with self._guard:
            if self._source is None:
                if self._location.scheme in HTTP:
                    from expflow.data.stores.http import HttpSource

                    self._source = HttpSource(self._location, self._policy)
                else:
                    from expflow.data.stores.object_store import ObjectSource

                    self._source = ObjectSource(self._location, self._policy)
            return self._source
