"""Locks between processes, which the system releases when their holder dies, and between threads."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


def is_same_file(path: Path, handle: int) -> bool:
    """Whether ``path`` still names the open file ``handle``.

    Args:
        path: Where the file was opened.
        handle: The open file.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


@contextmanager
def exclusive_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock between processes, named by a file. Yields whether the lock is held.

    The file is removed at the end, so a lock may turn out to be on a file that is gone: then it is taken again.

    Args:
        path: The lock's file, which is created.
        wait: False yields False at once where another process holds the lock.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not is_same_file(path, handle):
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            if wait:
                raise
            yield False
            return
        finally:
            os.close(handle)


@dataclass
class _CountedLock:
    """A lock and the number of threads that hold it or wait for it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class KeyedLocks:
    """A lock per key for the threads of one process; a key that no thread uses takes no room."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, _CountedLock] = {}

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold the lock of one key for as long as the context lasts.

        Args:
            key: What is locked.
        """
        with self._guard:
            keyed = self._locks.setdefault(key, _CountedLock())
            keyed.users += 1
        try:
            with keyed.lock:
                yield
        finally:
            with self._guard:
                keyed.users -= 1
                if not keyed.users:
                    del self._locks[key]
