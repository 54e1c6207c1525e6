"""Locks between processes, which the system releases when their holder dies, and between threads."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


def is_at(path: Path, handle: int) -> bool:
    """Whether ``path`` still names the open file ``handle``."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock named by the file ``path``; yields False at once where it is taken and ``wait`` is False.

    The file is removed at the end, so a lock may turn out to be on a file that is gone: then it is taken again.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not is_at(path, handle):
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
class _Lock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class KeyedLocks:
    """A lock per key for the threads of one process; a key that nobody uses takes no room."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, _Lock] = {}

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold ``key``'s lock."""
        with self._guard:
            mine = self._locks.setdefault(key, _Lock())
            mine.users += 1
        try:
            with mine.lock:
                yield
        finally:
            with self._guard:
                mine.users -= 1
                if not mine.users:
                    del self._locks[key]
