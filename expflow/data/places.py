"""Where a build happens, and how it appears: in a hidden folder under a lock, then by one rename."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expflow.data.stores.locks import locked
from expflow.files import sync


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """The hidden ``folder`` of one build, held by nobody else meanwhile; what a killed build left is in it.

    It is removed at the end if nothing is in it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock")):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def publish(folder: Path, root: Path) -> None:
    """Have ``folder`` be ``root``, which is not there or empty. Its files are on the disk already."""
    sync(folder)
    folder.rename(root)
    sync(root.parent)


def clear(folder: Path) -> None:
    """Remove the files in ``folder``."""
    for path in folder.iterdir():
        path.unlink()
