"""Which files were hashed and verified, so that many ranks on one node hash a shard once and not once each.

A record holds for one state of one file (device, inode, size, time of change) and until the machine starts anew.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.data.stores.locks import KeyedLocks, exclusive_lock

if TYPE_CHECKING:
    from expflow.data.shards.manifest import ShardEntry

RACY_NS = 50_000_000
"""A file that was changed this short a time ago could change again without another time stamp."""
KEPT_SECONDS = 7 * 24 * 3600
BLOCK = 1 << 20

_recorded: set[str] = set()
_locks = KeyedLocks()


class VerifiedFiles:
    """The records of this process and, in a folder, of all processes of this machine.

    Args:
        folder: Where the records lie, one empty file each; None keeps them in this process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def problem(self, handle: int, shard: ShardEntry) -> str:
        """How an open file differs from what it should be; "" where it does not. Hashed unless a record says so.

        Args:
            handle: The open file.
            shard: The size and sha256 that it should have.
        """
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return "expected a file, found something else"
        if status.st_size != shard.bytes:
            return f"expected {shard.bytes} bytes, found {status.st_size}"
        record = _record_name(status, shard)
        if self._is_recorded(record):
            return ""
        with self._hashing(record):
            if self._is_recorded(record):
                return ""
            sha256 = _sha256(handle)
            if sha256 != shard.sha256:
                return f"expected sha256 {shard.sha256}, found {sha256}"
            if time.time_ns() - status.st_mtime_ns > RACY_NS:
                self._record(record)
        return ""

    def mark(self, handle: int, shard: ShardEntry) -> None:
        """Record that an open file was hashed while it was written.

        Args:
            handle: The open file.
            shard: The size and sha256 that it has.
        """
        self._record(_record_name(os.fstat(handle), shard))

    def _is_recorded(self, record: str) -> bool:
        if record not in _recorded and self._folder is not None and (self._folder / record).exists():
            _recorded.add(record)
        return record in _recorded

    def _record(self, record: str) -> None:
        _recorded.add(record)
        if self._folder is not None:
            with suppress(OSError):  # a folder that cannot be written costs time only
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / record).touch()

    @contextmanager
    def _hashing(self, record: str) -> Iterator[None]:
        """One thread of one process hashes a file; the others wait, and then read its record."""
        with _locks.locked(record):
            try:
                lock = self._folder and self._folder / f"{record}.lock"
                if lock:
                    lock.parent.mkdir(parents=True, exist_ok=True)
                    lock.touch()
            except OSError:
                lock = None
            if lock is None:
                yield
                return
            with exclusive_lock(lock):
                yield

    def remove_old_records(self) -> None:
        """Remove records that are older than KEPT_SECONDS, and so those of earlier starts of the machine."""
        if self._folder is None:
            return
        with suppress(OSError):
            for entry in os.scandir(self._folder):
                if time.time() - entry.stat().st_mtime > KEPT_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)


def _record_name(status: os.stat_result, shard: ShardEntry) -> str:
    values = (shard.sha256, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, _boot_id())
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: records then hold for this process
        return f"{os.getpid()}-{time.time_ns()}"


def _sha256(handle: int) -> str:
    digest, position = hashlib.sha256(), 0
    while block := os.pread(handle, BLOCK, position):
        digest.update(block)
        position += len(block)
    return digest.hexdigest()
