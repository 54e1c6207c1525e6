"""A shard that is being read: its bytes, and what keeps them in place."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Held:
    """One whole, verified shard. ``view`` is read-only; ``path`` is its file, None where it is only in memory."""

    view: memoryview = field(repr=False)
    path: Path | None


@contextmanager
def mapped(path: Path, handle: int, size: int) -> Iterator[Held]:
    """The file behind ``handle`` as memory. Slices of the view may outlive it; the file's lock does not."""
    if size == 0:  # an empty file cannot be mapped
        yield Held(memoryview(b""), path)
        return
    area = mmap.mmap(handle, size, access=mmap.ACCESS_READ)
    view = memoryview(area)
    try:
        yield Held(view, path)
    finally:
        # mmap keeps a duplicate of the handle, with it the lock, for as long as slices are about.
        fcntl.flock(handle, fcntl.LOCK_UN)
        try:
            view.release()
            area.close()
        except BufferError:
            del view, area  # the last slice frees them


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A handle on ``path`` that is closed again."""
    handle = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)
