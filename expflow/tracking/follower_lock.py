"""At most one process of this machine writes a sweep's ledger to MLflow, and at most one waits to do so by itself."""

from __future__ import annotations

import contextlib
import fcntl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_POLL_SECONDS = 0.5


@contextlib.contextmanager
def alone_at(folder: Path, *, wait: bool) -> Iterator[bool]:
    """At most one follower of a sweep on this machine; yields whether this is the one.

    Args:
        folder: The experiment's folder.
        wait: Whether to wait for the end of the one that is there.
    """
    with _lock_file(folder, "follower.lock") as file:
        if wait:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield wait or _is_locked(file)


@contextlib.contextmanager
def turn_at(folder: Path, parent_ended: threading.Event | None) -> Iterator[bool]:
    """Waits until no other follower of a sweep works; yields whether this one's turn came.

    One whose parent has ended leaves where another waits already, which will write all that there is: else each command
    of a user whose store is slow would leave one more process behind.

    Args:
        folder: The experiment's folder.
        parent_ended: Set once the process that started this one has ended; None: there is none.
    """
    with _lock_file(folder, "follower-next.lock") as place:
        while not _is_locked(place):
            if parent_ended is None:
                time.sleep(_POLL_SECONDS)
            elif parent_ended.wait(_POLL_SECONDS):
                yield False
                return
        with alone_at(folder, wait=True) as alone:
            fcntl.flock(place, fcntl.LOCK_UN)
            yield alone


def _lock_file(folder: Path, name: str) -> TextIO:
    path = folder / "tracking" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w")


def _is_locked(file: TextIO) -> bool:
    """Whether this process has a file's lock now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
