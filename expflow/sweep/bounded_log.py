"""A trial's log: where its process's output goes, with a limit to its size."""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

_MARK = re.compile(rb"\[\.\.\. (\d+) bytes of this log were left out \.\.\.\]\n")
_MARK_BYTES = 100


class BoundedLog:
    """Sends this process's output to a file, by its descriptors, so that C libraries and children are caught too.

    Of more output than the limit the beginning and the end are kept. Since whoever has the file's descriptor may write
    to it at any time, it is looked at now and then (:meth:`trim`), and may be larger in between.

    Args:
        path: The file; what is there already stays, as a part of the log.
        limit: Most bytes.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._lock = threading.Lock()
        self._open = False

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._kept = [os.dup(1), os.dup(2)]
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in (1, 2):
            os.dup2(self._file, descriptor)
        self._open = True
        return self

    def __exit__(self, *error: object) -> None:
        for kept, descriptor in zip(self._kept, (1, 2), strict=True):
            os.dup2(kept, descriptor)
        self.trim()
        with self._lock:
            self._open = False
            for descriptor in (*self._kept, self._file):
                os.close(descriptor)

    def trim(self) -> None:
        """Take out the middle of a log that is longer than its limit. Does nothing any more once the log is closed."""
        with self._lock, suppress(OSError):  # a full disk; the trial itself will say so
            if self._open and os.fstat(self._file).st_size > self._limit:
                self._cut()

    def _cut(self) -> None:
        """Keep a half of the limit of the beginning and a quarter of the end, so that not every line has to be cut."""
        size, before = os.fstat(self._file).st_size, 0
        head = os.pread(self._file, self._limit // 2 + _MARK_BYTES, 0)
        if (mark := _MARK.search(head)) is not None:
            before, beginning, behind = int(mark[1]), mark.start(), mark.end()
        else:
            beginning = behind = head.rfind(b"\n", 0, self._limit // 2) + 1 or self._limit // 2
        tail = os.pread(self._file, self._limit // 4, size - self._limit // 4)
        tail = tail[tail.find(b"\n") + 1 :]
        left_out = before + size - behind - len(tail)
        os.ftruncate(self._file, beginning)
        os.write(self._file, f"[... {left_out} bytes of this log were left out ...]\n".encode() + tail)
