"""Room in the cache: counting, evicting the least recently used, and clearing away what dead processes left."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expflow.data.stores.locks import is_at, locked

LEFT_SECONDS = 3600
"""A part that nobody downloads is kept this long for whoever goes on with it."""
IDLE_SECONDS = 3600
"""Where the disk, not the limit, has no room, only what nobody used for this long goes: to throw away what is read in
turn would leave nothing to find.
"""
RESERVED = 0.01
"""The share of a disk that the cache leaves free: checkpoints must find room."""


@dataclass(frozen=True)
class _File:
    """``bytes`` is the room that it takes or will take, ``used`` the time of its last use."""

    path: Path
    bytes: int
    used: float
    is_part: bool


class Room:
    """The room in ``folder``: at most ``limit`` bytes, and what its disk has."""

    def __init__(self, folder: Path, limit: int | None) -> None:
        self._folder, self._limit = folder, limit

    def make(self, wanted: int, part: Path) -> str:
        """Evict until ``wanted`` bytes fit, and create ``part``, which claims them; "" or why they do not fit."""
        if self._limit is not None and wanted > self._limit:
            return f"is limited to {self._limit} bytes, fewer than a shard of {wanted} takes"
        with locked(self._folder / "room.lock"):
            files = sorted(self._files(part), key=lambda file: (not file.is_part, file.used))
            if self._limit is not None and self._evict(files, sum(file.bytes for file in files) + wanted - self._limit):
                return f"is limited to {self._limit} bytes, all of which are in use"
            idle = [file for file in files if time.time() - file.used > IDLE_SECONDS and file.path.exists()]
            if self._evict(idle, self._lack(wanted, part)):
                return "has no room left on its disk"
            part.touch()
        return ""

    def sweep(self) -> None:
        """Remove parts and locks whose processes are gone, unless they are young enough to be of use."""
        with suppress(OSError):
            for entry in list(os.scandir(self._folder)):
                path = Path(entry.path)
                if path.suffix in (".part", ".lock") and time.time() - _mtime(path) > LEFT_SECONDS:
                    _remove_part(path)

    def _files(self, own: Path) -> Iterator[_File]:
        for entry in os.scandir(self._folder):
            path = Path(entry.path)
            with suppress(FileNotFoundError):
                state = entry.stat()
                if path.suffix == ".tar":
                    yield _File(path, state.st_size, state.st_atime, is_part=False)
                elif path.suffix == ".part" and path != own:
                    claimed = path.name.split(".")[1]
                    yield _File(path, int(claimed) if claimed.isdigit() else state.st_size, state.st_mtime, True)

    def _evict(self, files: list[_File], excess: int) -> bool:
        """Remove what nobody uses until ``excess`` bytes are gone; whether some of them are left."""
        for file in files:
            if excess <= 0:
                return False
            if (_remove_part if file.is_part else _remove_entry)(file.path):
                excess -= file.bytes
        return excess > 0

    def _lack(self, wanted: int, part: Path) -> int:
        """The bytes that the disk lacks for ``part`` to become ``wanted`` bytes."""
        disk = os.statvfs(self._folder)
        there = part.stat().st_size if part.exists() else 0
        return wanted - there + int(RESERVED * disk.f_blocks * disk.f_frsize) - disk.f_bavail * disk.f_frsize


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _remove_entry(path: Path) -> bool:
    """Remove a cached shard unless someone holds it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(path, handle):
            path.unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


def _remove_part(path: Path) -> bool:
    """Remove a part, or a lock, unless its shard is being downloaded."""
    with locked(path.with_name(f"{path.name.split('.')[0]}.lock"), wait=False) as free:
        if free:
            path.unlink(missing_ok=True)
        return free
