"""A shard that is being read: its bytes, and what keeps them in place."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class OpenShard:
    """One whole, verified shard.

    Attributes:
        view: Its bytes, read-only.
        path: Its file; None where it is only in memory.
    """

    view: memoryview = field(repr=False)
    path: Path | None


@contextmanager
def memory_mapped(path: Path, handle: int, size: int) -> Iterator[OpenShard]:
    """Map an open file into memory for as long as the context lasts. Slices of the view may outlive it.

    Where the file system cannot map files, as some in user space, the file is read instead.

    Args:
        path: The file's path, which the result carries.
        handle: The open file.
        size: Its size in bytes.
    """
    try:
        area = mmap.mmap(handle, size, access=mmap.ACCESS_READ) if size else None
    except OSError:
        area = None
    if area is None:
        yield OpenShard(memoryview(_content(handle, size)).toreadonly(), path)
        return
    view = memoryview(area)
    try:
        yield OpenShard(view, path)
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
def file_handle(path: Path) -> Iterator[int]:
    """A handle for reading a file, which is closed again when the context ends.

    Args:
        path: The file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
