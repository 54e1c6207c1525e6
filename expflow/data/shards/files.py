"""Files on the disk: written whole or not at all, hashed, mapped into memory. Without other packages."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expflow.files import open_regular


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it has its name only once all of it is on the disk.

    Args:
        path: the file's final name; it is written beside it and renamed.
        content: the file's bytes.
    """
    unfinished = path.with_name(f".{path.name}.part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Return the size in bytes and the sha256 of a file.

    Args:
        path: the file, which is read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


@contextmanager
def memory_mapped(path: Path) -> Iterator[memoryview]:
    """Give a view of a file's content, of which only the pages that are looked at are read.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is empty.
    """
    with open_regular(path) as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with memoryview(content) as view:
        yield view
