"""Space in the cache: counting it, evicting the least recently used, and removing what dead processes left."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expflow.data.stores.locks import exclusive_lock, is_same_file

LEFTOVER_SECONDS = 3600
"""A part that no process downloads is kept this long, so that another can go on with it."""
IDLE_SECONDS = 3600
"""Where the disk, not the limit, has no room, only shards that were not used for this long are evicted: evicting what
is read in turn would leave nothing to find.
"""
RESERVED_SHARE = 0.01
"""The share of a disk that the cache leaves free: checkpoints must find room."""


@dataclass(frozen=True)
class _CachedFile:
    """A file of the cache.

    Attributes:
        path: Where it lies.
        bytes: The space that it takes or will take.
        used: The time of its last use, in seconds since the epoch.
        is_part: Whether it is the beginning of a download.
    """

    path: Path
    bytes: int
    used: float
    is_part: bool


class CacheSpace:
    """The space for shards in one folder.

    Args:
        folder: The folder of the cached shards.
        limit: How many bytes they may take; None leaves it to the disk.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        self._folder, self._limit = folder, limit

    def reserve(self, size: int, part: Path) -> str:
        """Evict shards until a download fits, and create its file, which claims the space.

        Args:
            size: The download's size in bytes.
            part: The file of the download; its name holds the size.

        Returns:
            "" where it fits, else why it does not.
        """
        if self._limit is not None and size > self._limit:
            return f"is limited to {self._limit} bytes, fewer than a shard of {size} takes"
        with exclusive_lock(self._folder / "room.lock"):
            files = sorted(self._files(part), key=lambda file: (not file.is_part, file.used))
            if self._limit is not None and self._evict(files, sum(file.bytes for file in files) + size - self._limit):
                return f"is limited to {self._limit} bytes, all of which are in use"
            idle = [file for file in files if time.time() - file.used > IDLE_SECONDS and file.path.exists()]
            if self._evict(idle, self._missing_on_disk(size, part)):
                return "has no room left on its disk"
            part.touch()
        return ""

    def remove_leftovers(self) -> None:
        """Remove parts and locks whose processes are gone, unless they are young enough to be of use."""
        with suppress(OSError):
            for entry in list(os.scandir(self._folder)):
                path = Path(entry.path)
                if path.suffix in (".part", ".lock") and time.time() - _modified(path) > LEFTOVER_SECONDS:
                    _remove_part(path)

    def _files(self, own: Path) -> Iterator[_CachedFile]:
        for entry in os.scandir(self._folder):
            path = Path(entry.path)
            with suppress(FileNotFoundError):
                status = entry.stat()
                if path.suffix == ".tar":
                    yield _CachedFile(path, status.st_size, status.st_atime, is_part=False)
                elif path.suffix == ".part" and path != own:
                    claimed = path.name.split(".")[1]
                    size = int(claimed) if claimed.isdigit() else status.st_size
                    yield _CachedFile(path, size, status.st_mtime, is_part=True)

    def _evict(self, files: list[_CachedFile], excess: int) -> bool:
        """Remove unused files until ``excess`` bytes are gone. Returns whether some of the excess is left."""
        for file in files:
            if excess <= 0:
                return False
            if (_remove_part if file.is_part else _remove_shard)(file.path):
                excess -= file.bytes
        return excess > 0

    def _missing_on_disk(self, size: int, part: Path) -> int:
        """The bytes that the disk lacks for ``part`` to become ``size`` bytes."""
        disk = os.statvfs(self._folder)
        written = part.stat().st_size if part.exists() else 0
        return size - written + int(RESERVED_SHARE * disk.f_blocks * disk.f_frsize) - disk.f_bavail * disk.f_frsize


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _remove_shard(path: Path) -> bool:
    """Remove a cached shard unless a process holds it. Returns whether it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_same_file(path, handle):
            path.unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


def _remove_part(path: Path) -> bool:
    """Remove a part, or a lock, unless its shard is being downloaded. Returns whether it is gone."""
    with exclusive_lock(path.with_name(f"{path.name.split('.')[0]}.lock"), wait=False) as free:
        if free:
            path.unlink(missing_ok=True)
        return free
