"""Files that are whole whenever somebody reads them, and that a power cut leaves whole."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have the disk hold ``path`` before going on: a file's content, or the names in a folder. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_whole(path: Path, content: bytes, *, durable: bool = False) -> Path:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never half of one.

    ``durable`` has the disk hold it before the call returns. Nothing is left behind by a failure. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with half.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)
    return path
