"""A shard that is being read: its bytes, and what keeps them in place."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Held:
    """One whole, verified shard. ``view`` is read-only; ``path`` is its file, None where it is only in memory."""

    view: memoryview = field(repr=False)
    path: Path | None


@contextmanager
def mapped(path: Path, handle: int, size: int) -> Iterator[Held]:
    """The file behind ``handle`` as memory. Slices of the view may outlive the context."""
    try:
        area = mmap.mmap(handle, size, access=mmap.ACCESS_READ) if size else None
    except OSError:  # some file systems in user space cannot do it
        area = None
    if area is None:
        yield Held(memoryview(_content(handle, size)).toreadonly(), path)
        return
    view = memoryview(area)
    try:
        yield Held(view, path)
    finally:
        with suppress(BufferError):  # else the last slice frees it
            view.release()
            area.close()


def _content(handle: int, size: int) -> bytearray:
    content = bytearray()
    while len(content) < size and (block := os.pread(handle, size - len(content), len(content))):
        content += block
    return content


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A handle on ``path`` that is closed again."""
    handle = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)
