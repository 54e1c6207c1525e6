"""Shards from elsewhere on this machine's disk: named by their content, shared by all processes, within a limit.

fetched/<sha256>.tar              a whole, verified shard; a process that holds it has a shared lock on it
fetched/<sha256>.<bytes>.part     the beginning of a download; the next process goes on where a dead one stopped
fetched/<sha256>.lock             held by the process that downloads or repairs that shard
fetched/room.lock                 held by the process that counts and evicts
verified/                         records of verified files (expflow.data.stores.verified_files)
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.data.stores.cache_space import CacheSpace
from expflow.data.stores.download_buffer import DownloadBuffer
from expflow.data.stores.locks import exclusive_lock, is_same_file
from expflow.data.stores.verified_files import VerifiedFiles
from expflow.errors import ShardCorrupt

if TYPE_CHECKING:
    from expflow.data.shards.manifest import ShardEntry

log = logging.getLogger(__name__)

Fetch = Callable[[DownloadBuffer], None]
"""Downloads a whole, verified shard into the buffer, going on from what is there."""
SHA256 = re.compile(r"[0-9a-f]{64}")


class ShardCache:
    """A folder for shards from elsewhere. Any number of processes may share it.

    Trouble with the folder never stops a stream: it goes on without caching, and one warning says why.

    Args:
        folder: The cache's folder, which is created when it is first needed.
        limit: How many bytes the shards may take; None leaves it to the disk.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._folder = folder / "fetched"
        self._space = CacheSpace(self._folder, limit)
        self.verified = VerifiedFiles(folder / "verified")
        self._prepared = False
        self._warned = False

    def acquire(self, shard: ShardEntry, fetch: Fetch) -> tuple[Path, int] | bytearray:
        """Open a shard, fetching it where it is not in the cache.

        Args:
            shard: The manifest's entry of the shard.
            fetch: Downloads the shard. What it raises is passed on.

        Returns:
            The shard's file and a handle on it, under a shared lock until it is closed; or its bytes, where they could
            not be cached.

        Raises:
            ShardCorrupt: The entry's sha256 is not one.
        """
        if not SHA256.fullmatch(shard.sha256):
            raise ShardCorrupt(f"{shard.name}: the manifest's sha256 {shard.sha256!r} is none")
        try:
            self._prepare()
            handle = self._open_cached(shard)
            if handle is None:
                with exclusive_lock(self._folder / f"{shard.sha256}.lock"):
                    handle = self._open_cached(shard, repair=True)
                    if handle is None:
                        return self._download(shard, fetch)
            return self._file(shard), handle
        except OSError as error:
            self._warn_once(f"cannot be used ({error.strerror or error})")
        return _fetch_into_memory(fetch)

    def _file(self, shard: ShardEntry) -> Path:
        return self._folder / f"{shard.sha256}.tar"

    def _prepare(self) -> None:
        if not self._prepared:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._space.remove_leftovers()
            self.verified.remove_old_records()
            self._prepared = True

    def _open_cached(self, shard: ShardEntry, *, repair: bool = False) -> int | None:
        """A handle on the cached shard, under a shared lock, or None. ``repair`` removes a damaged one."""
        path = self._file(shard)
        while True:
            try:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                fcntl.flock(handle, fcntl.LOCK_SH)  # waits for as long as an eviction takes
                if is_same_file(path, handle):
                    if not (problem := self.verified.problem(handle, shard)):
                        _note_use(path, handle)
                        kept, handle = handle, -1
                        return kept
                    if repair:
                        log.warning("%s: damaged (%s); fetched again", path, problem)
                        path.unlink(missing_ok=True)
                    return None
            finally:
                if handle >= 0:
                    os.close(handle)

    def _download(self, shard: ShardEntry, fetch: Fetch) -> tuple[Path, int] | bytearray:
        """Fetch ``shard`` into the cache, or into memory; the caller holds its lock."""
        part = self._folder / f"{shard.sha256}.{shard.bytes}.part"
        if no_space := self._space.reserve(shard.bytes, part):
            self._warn_once(no_space)
            return _fetch_into_memory(fetch)
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        buffer = None
        try:
            buffer = DownloadBuffer(handle)
            fetch(buffer)
            if buffer.disk_error is None:
                self._publish(shard, part, handle)
                kept, handle = handle, -1
                return self._file(shard), kept
            self._warn_once(f"is full ({buffer.disk_error.strerror})")
            return buffer.content()
        finally:
            if handle >= 0:
                if buffer is None or buffer.in_memory or buffer.size == 0:
                    part.unlink(missing_ok=True)
                os.close(handle)

    def _publish(self, shard: ShardEntry, part: Path, handle: int) -> None:
        """Make a whole, verified part visible, with the shared lock on it already."""
        os.fsync(handle)
        fcntl.flock(handle, fcntl.LOCK_SH)
        _note_use(part, handle)
        part.rename(self._file(shard))
        self.verified.mark(handle, shard)
        folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _warn_once(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the cache %s %s; shards are read without it", self._folder, reason)


def _note_use(path: Path, handle: int) -> None:
    """Note the time of use, by which the least recently used is evicted. The time of change stays.

    The system's own note is coarse (milliseconds), and on many disks none is made at all.
    """
    with suppress(OSError):  # another user's file: it is then as old as its download
        os.utime(path, ns=(time.time_ns(), os.fstat(handle).st_mtime_ns))


def _fetch_into_memory(fetch: Fetch) -> bytearray:
    buffer = DownloadBuffer()
    fetch(buffer)
    return buffer.content()
