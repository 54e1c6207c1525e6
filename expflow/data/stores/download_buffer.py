"""The bytes of a download: counted and hashed as they arrive, kept in a file or, where the disk is full, in memory."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room on the disk, in the quota, or under this process's limit on the size of files."""
BLOCK = 1 << 20


class DownloadBuffer:
    """The beginning of one file, to which arriving bytes are appended.

    ``size`` is the number of bytes so far; ``disk_error`` is the error of a full disk, after which everything is in
    memory, else None.

    Args:
        handle: An open file that may hold a beginning already; None keeps the bytes in memory.
    """

    def __init__(self, handle: int | None = None) -> None:
        self._handle = handle
        self._memory = bytearray()
        self.disk_error: OSError | None = None
        self._reset()
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
        """Hex digest of the bytes so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. A full disk moves everything to memory; ``disk_error`` then says why.

        Args:
            data: The next bytes of the file.
        """
        if self._handle is not None:
            try:
                _write_all(self._handle, data)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                self._move_to_memory(self._handle, error)
        if self._handle is None:
            self._memory += data
        self._count(data)

    def restart(self) -> None:
        """Throw away what arrived."""
        if self._handle is not None:
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.ftruncate(self._handle, 0)
        self._memory = bytearray()
        self._reset()

    def content(self) -> bytearray:
        """The bytes that are in memory; empty where they are in the file."""
        return self._memory

    def _reset(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def _count(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)

    def _move_to_memory(self, handle: int, error: OSError) -> None:
        """Read back what the file holds and free its room. A part of the last write may be there: it is cut off."""
        os.lseek(handle, 0, os.SEEK_SET)
        while len(self._memory) < self.size and (block := os.read(handle, BLOCK)):
            self._memory += block
        del self._memory[self.size :]
        os.ftruncate(handle, 0)
        self._handle, self.disk_error = None, error


def _write_all(handle: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Read a file for its size in bytes and its sha256 as a hex digest.

    Args:
        path: The file.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
