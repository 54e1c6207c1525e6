"""Shards from elsewhere on this machine's disk: named by their content, shared by all processes, within a limit.

fetched/<sha256>.tar              a whole, verified shard; a shared lock on it while anyone holds it
fetched/<sha256>.<bytes>.part     one that arrives; the next process goes on where a dead one stopped
fetched/<sha256>.lock             whoever downloads or mends that shard
fetched/room.lock                 whoever counts and evicts
verified/                         findings (expflow.data.stores.verified)
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

from expflow.data.stores.arriving import Arriving
from expflow.data.stores.locks import is_at, locked
from expflow.data.stores.room import Room
from expflow.data.stores.verified import Verified
from expflow.errors import ShardCorrupt

if TYPE_CHECKING:
    from expflow.data.manifest import Shard

log = logging.getLogger(__name__)

Fetch = Callable[[Arriving], None]
"""Has a whole shard arrive, verified, going on from what is there."""
SHA256 = re.compile(r"[0-9a-f]{64}")


class ShardCache:
    """A folder for shards from elsewhere, at most ``limit`` bytes of them. Any number of processes may share it.

    Trouble with the folder never stops a stream: it goes on without caching, and one warning says why.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._shards = folder / "fetched"
        self._limit = limit
        self._room = Room(self._shards, limit)
        self.verified = Verified(folder / "verified")
        self._ready = False
        self._said = False

    def acquire(self, shard: Shard, fetch: Fetch) -> tuple[Path, int] | bytearray:
        """``shard``'s file and a handle on it, under a shared lock until it is closed; or its bytes, where they could
        not be cached. ``fetch`` is called where they are not here. Raises what ``fetch`` raises.
        """
        if not SHA256.fullmatch(shard.sha256):
            raise ShardCorrupt(f"{shard.name}: the manifest's sha256 {shard.sha256!r} is none")
        try:
            self._prepare()
            handle = self._find(shard)
            if handle is None:
                with locked(self._shards / f"{shard.sha256}.lock"):
                    handle = self._find(shard, mend=True)
                    if handle is None:
                        return self._download(shard, fetch)
            return self._entry(shard), handle
        except OSError as error:
            self._say(f"cannot be used ({error.strerror or error})")
        return _in_memory(fetch)

    def _entry(self, shard: Shard) -> Path:
        return self._shards / f"{shard.sha256}.tar"

    def _prepare(self) -> None:
        if not self._ready:
            self._shards.mkdir(parents=True, exist_ok=True)
            self._room.sweep()
            self.verified.sweep()
            self._ready = True

    def _find(self, shard: Shard, *, mend: bool = False) -> int | None:
        """A handle on the cached shard, under a shared lock, or None. ``mend`` removes a damaged one."""
        path = self._entry(shard)
        while True:
            try:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                fcntl.flock(handle, fcntl.LOCK_SH)  # waits for as long as an eviction takes
                if is_at(path, handle):
                    if not (problem := self.verified.problem(handle, shard)):
                        _use(path, handle)
                        kept, handle = handle, -1
                        return kept
                    if mend:
                        log.warning("%s: damaged (%s); fetched again", path, problem)
                        path.unlink(missing_ok=True)
                    return None
            finally:
                if handle >= 0:
                    os.close(handle)

    def _download(self, shard: Shard, fetch: Fetch) -> tuple[Path, int] | bytearray:
        """Fetch ``shard`` into the cache, or into memory; the caller holds its lock."""
        part = self._shards / f"{shard.sha256}.{shard.bytes}.part"
        if lack := self._room.make(shard.bytes, part):
            self._say(lack)
            return _in_memory(fetch)
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        arriving = None
        try:
            arriving = Arriving(handle)
            fetch(arriving)
            if arriving.full is None:
                self._keep(shard, part, handle)
                kept, handle = handle, -1
                return self._entry(shard), kept
            self._say(f"is full ({arriving.full.strerror})")
            return arriving.content()
        finally:
            if handle >= 0:
                if arriving is None or arriving.in_memory or arriving.size == 0:
                    part.unlink(missing_ok=True)
                os.close(handle)

    def _keep(self, shard: Shard, part: Path, handle: int) -> None:
        """Make a whole, verified part visible, with the shared lock on it already."""
        os.fsync(handle)
        fcntl.flock(handle, fcntl.LOCK_SH)
        _use(part, handle)
        part.rename(self._entry(shard))
        self.verified.mark(handle, shard)
        folder = os.open(self._shards, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            log.warning("the cache %s %s; shards are read without it", self._shards, why)


def _use(path: Path, handle: int) -> None:
    """Note the time of use, by which the least recently used is evicted. The time of change stays.

    The system's own note is coarse (milliseconds), and on many disks none is made at all.
    """
    with suppress(OSError):  # another user's file: it is then as old as its download
        os.utime(path, ns=(time.time_ns(), os.fstat(handle).st_mtime_ns))


def _in_memory(fetch: Fetch) -> bytearray:
    arriving = Arriving()
    fetch(arriving)
    return arriving.content()
