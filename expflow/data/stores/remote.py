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
from expflow.data.stores.ahead import Ahead
from expflow.data.stores.arriving import Arriving
from expflow.data.stores.cache import ShardCache
from expflow.data.stores.held import Held, mapped
from expflow.data.stores.locks import KeyedLocks
from expflow.data.stores.patience import Patience
from expflow.data.stores.root import Root
from expflow.data.stores.transfer import Transfer
from expflow.errors import DataMissing, DataUnreachable, StorageUnwritable

if TYPE_CHECKING:
    from expflow.data.manifest import Shard
    from expflow.data.stores.http import HttpSource
    from expflow.data.stores.objects import ObjectSource

MEMORY_AHEAD = 4
"""Shards that are kept in memory before anyone holds them."""


@dataclass
class _Content:
    """A shard in memory, and how many hold it."""

    data: bytearray
    holders: int


class RemoteRoot(Root):
    """A folder at an HTTP server or in an object store."""

    def __init__(self, where: Address, cache: ShardCache | None, patience: Patience) -> None:
        super().__init__(where)
        self._cache, self._patience = cache, patience
        self._start()

    def _start(self) -> None:
        self._source: HttpSource | ObjectSource | None = None
        self._guard, self._busy = threading.Lock(), KeyedLocks()
        self._in_memory: dict[str, _Content] = {}
        self._ahead = Ahead(self._make_ready)
        self._fetching, self._uncached = 0, self._cache is None

    def __getstate__(self) -> dict[str, Any]:
        return {"where": self._where, "cache": self._cache, "patience": self._patience}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._where, self._cache, self._patience = state["where"], state["cache"], state["patience"]
        self._start()

    def read_bytes(self, name: str) -> bytes:
        """A small file, whole."""
        arriving = Arriving()
        self._transfer().fetch(name, arriving)
        return bytes(arriving.content())

    def write_file(self, name: str, local_path: Path) -> None:
        """Put a copy of ``local_path`` at ``name``, and check it."""
        source = self._opened()
        if self._where.scheme in HTTP:
            raise StorageUnwritable(f"{self.address}: HTTP addresses are only read; write to a folder or to s3://")
        try:
            self._transfer().ask(name, lambda: source.upload(name, local_path))  # type: ignore[union-attr]
        except (DataUnreachable, DataMissing) as error:
            raise StorageUnwritable(f"cannot write {self._where.showing(name)}: {error}") from error

    def exists(self, name: str) -> bool:
        """Whether there is a file ``name``."""
        source = self._opened()
        return self._transfer().ask(name, lambda: source.exists(name))

    def list(self) -> list[str]:
        """The names of the files in this folder."""
        source = self._opened()
        if self._where.scheme in HTTP:
            raise DataUnreachable(f"{self.address}: HTTP has no folders to list; what is there stands in the manifest")
        return self._transfer().ask("", lambda: source.names())  # type: ignore[union-attr]

    def download(self, name: str, path: Path) -> tuple[int, str]:
        """Copy the file ``name`` to ``path``; returns its size and sha256."""
        with path.open("wb+", buffering=0) as file:
            arriving = Arriving(file.fileno())
            self._transfer().fetch(name, arriving)
        if arriving.full is not None:
            raise StorageUnwritable(f"{path}: cannot be written ({arriving.full.strerror})")
        return arriving.size, arriving.sha256

    @contextmanager
    def hold(self, shard: Shard) -> Iterator[Held]:
        """The whole of ``shard``, verified."""
        got = self._acquire(shard)
        if isinstance(got, bytearray):
            try:
                yield Held(memoryview(got).toreadonly(), None)
            finally:
                self._release(shard)
        else:
            path, handle = got
            try:
                with mapped(path, handle, shard.bytes) as held:
                    yield held
            finally:
                # A mapping keeps a duplicate of the handle, and with it the lock, for as long as slices are about.
                fcntl.flock(handle, fcntl.LOCK_UN)
                os.close(handle)

    def prefetch(self, shard: Shard) -> None:
        """Begin to make ``shard`` ready."""
        self._ahead.add(shard)

    def close(self) -> None:
        """End what runs in the background."""
        self._ahead.clear()
        with self._guard:
            if self._source is not None:
                self._source.close()
            self._source = None
            self._in_memory = {key: each for key, each in self._in_memory.items() if each.holders}

    def _acquire(self, shard: Shard) -> tuple[Path, int] | bytearray:
        """A handle on the shard's file in the cache, or its bytes, of which this call is then a holder."""
        with self._busy.locked(shard.sha256):
            with self._guard:
                if content := self._in_memory.get(shard.sha256):
                    content.holders += 1
                    return content.data
            got = self._fetched(shard)
            if isinstance(got, bytearray):
                with self._guard:
                    self._in_memory[shard.sha256] = _Content(got, 1)
            return got

    def _release(self, shard: Shard) -> None:
        with self._guard:
            content = self._in_memory[shard.sha256]
            content.holders -= 1
            if not content.holders:
                del self._in_memory[shard.sha256]

    def _make_ready(self, shard: Shard) -> None:
        """Fetch ``shard`` into the cache, or into memory for its first holder: there, only a few at a time."""
        with self._busy.locked(shard.sha256):
            with self._guard:
                waiting = self._fetching + sum(not content.holders for content in self._in_memory.values())
                if shard.sha256 in self._in_memory or (self._uncached and waiting >= MEMORY_AHEAD):
                    return
                self._fetching += 1
            got = None
            try:
                got = self._fetched(shard)
            finally:
                with self._guard:
                    self._fetching -= 1
                    if isinstance(got, bytearray):
                        self._in_memory[shard.sha256] = _Content(got, 0)
            if not isinstance(got, bytearray):
                os.close(got[1])

    def _fetched(self, shard: Shard) -> tuple[Path, int] | bytearray:
        transfer = self._transfer()
        if self._cache is not None:
            got = self._cache.acquire(shard, lambda arriving: transfer.fetch(shard.name, arriving, shard))
            self._uncached = isinstance(got, bytearray)
            return got
        arriving = Arriving()
        transfer.fetch(shard.name, arriving, shard)
        return arriving.content()

    def _transfer(self) -> Transfer:
        return Transfer(self._opened(), self._patience)

    def _opened(self) -> HttpSource | ObjectSource:
        """The store's client. Its libraries are imported here, not before."""
        with self._guard:
            if self._source is None:
                if self._where.scheme in HTTP:
                    from expflow.data.stores.http import HttpSource

                    self._source = HttpSource(self._where, self._patience)
                else:
                    from expflow.data.stores.objects import ObjectSource

                    self._source = ObjectSource(self._where, self._patience)
            return self._source
