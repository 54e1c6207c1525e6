"""Bytes on their way in: counted and hashed while they arrive, kept in a file or, where that is full, in memory."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room on the disk, in the quota, or under this process's limit on the size of files."""
BLOCK = 1 << 20


class Arriving:
    """A growing beginning of one file. ``handle`` is an open file that may hold a beginning already; None: memory."""

    def __init__(self, handle: int | None = None) -> None:
        self._handle = handle
        self._memory = bytearray()
        self.full: OSError | None = None
        self._begin()
        if handle is not None:
            os.lseek(handle, 0, os.SEEK_SET)
            while block := os.read(handle, BLOCK):
                self._count(block)

    @property
    def in_memory(self) -> bool:
        """Whether the bytes are in memory, from the start or since the disk was full."""
        return self._handle is None

    @property
    def sha256(self) -> str:
        """Of what arrived so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data``. A full disk moves everything to memory; ``full`` then says why."""
        if self._handle is not None:
            try:
                _write_all(self._handle, data)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._spill(self._handle, error)
        if self._handle is None:
            self._memory += data
        self._count(data)

    def restart(self) -> None:
        """Throw away what arrived."""
        if self._handle is not None:
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.ftruncate(self._handle, 0)
        self._memory = bytearray()
        self._begin()

    def content(self) -> bytearray:
        """What is in memory."""
        return self._memory

    def _begin(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def _count(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)

    def _spill(self, handle: int, error: OSError) -> None:
        """Read back what the file holds and free its room. A part of the last write may be there: it is cut off."""
        os.lseek(handle, 0, os.SEEK_SET)
        while len(self._memory) < self.size and (block := os.read(handle, BLOCK)):
            self._memory += block
        del self._memory[self.size :]
        os.ftruncate(handle, 0)
        self._handle, self.full = None, error


def _write_all(handle: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def read_back(path: Path) -> tuple[int, str]:
    """The size and sha256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
