"""Where a build happens and how its result appears: in a hidden folder under a lock, then by one rename."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expflow.data.stores.locks import exclusive_lock
from expflow.errors import StorageUnwritable
from expflow.files import fsync_path


@contextmanager
def build_folder(folder: Path) -> Iterator[Path]:
    """Hold the hidden folder of one build under a lock; what a killed build left is still in it.

    Args:
        folder: the hidden folder. It is made if need be, and removed at the end if nothing is in it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder.with_name(f"{folder.name}.lock")):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def publish(folder: Path, root: Path) -> None:
    """Rename a finished build's folder to its final name.

    Args:
        folder: the hidden folder, whose files are on the disk already.
        root: the final folder, which does not exist or is empty.
    """
    fsync_path(folder)
    folder.rename(root)
    fsync_path(root.parent)


def remove_files(folder: Path) -> None:
    """Remove the files in a folder.

    Args:
        folder: a folder without subfolders.
    """
    for path in folder.iterdir():
        path.unlink()


@contextmanager
def disk_errors_named(name: str, place: Path) -> Iterator[None]:
    """Turn errors of the disk during a build into one that says what to do.

    Args:
        name: the source that is built.
        place: the folder in which it is built.

    Raises:
        StorageUnwritable: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageUnwritable(
            f"cannot build the shards of {name} in {place}: {error}; mend that, and the same command goes on with"
            " what is done"
        ) from error
