"""Which files were hashed and found right, so that many ranks on one node hash a shard once and not once each.

A finding holds for one state of one file (device, inode, size, time of change) and until the machine starts anew.
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

from expflow.data.stores.locks import KeyedLocks, locked

if TYPE_CHECKING:
    from expflow.data.manifest import Shard

RACY_NS = 50_000_000
"""A file that was changed this short a time ago could change again without another time stamp."""
KEPT_SECONDS = 7 * 24 * 3600
BLOCK = 1 << 20

_known: set[str] = set()
_busy = KeyedLocks()


class Verified:
    """Findings of this process and, below ``folder``, of all processes of this machine."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def problem(self, handle: int, shard: Shard) -> str:
        """How the open file differs from ``shard``; "" where it does not. Hashes it where no finding says so."""
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            return "expected a file, found something else"
        if state.st_size != shard.bytes:
            return f"expected {shard.bytes} bytes, found {state.st_size}"
        finding = _finding(state, shard)
        if self._is_known(finding):
            return ""
        with self._alone(finding):
            if self._is_known(finding):
                return ""
            found = _sha256(handle)
            if found != shard.sha256:
                return f"expected sha256 {shard.sha256}, found {found}"
            if time.time_ns() - state.st_mtime_ns > RACY_NS:
                self._remember(finding)
        return ""

    def mark(self, handle: int, shard: Shard) -> None:
        """Record that the open file was hashed while it was written."""
        self._remember(_finding(os.fstat(handle), shard))

    def _is_known(self, finding: str) -> bool:
        if finding not in _known and self._folder is not None and (self._folder / finding).exists():
            _known.add(finding)
        return finding in _known

    def _remember(self, finding: str) -> None:
        _known.add(finding)
        if self._folder is not None:
            with suppress(OSError):  # a folder that cannot be written costs time only
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / finding).touch()

    @contextmanager
    def _alone(self, finding: str) -> Iterator[None]:
        """One thread of one process hashes, the others wait for what it finds."""
        with _busy.locked(finding):
            try:
                lock = self._folder and self._folder / f"{finding}.lock"
                if lock:
                    lock.parent.mkdir(parents=True, exist_ok=True)
                    lock.touch()
            except OSError:
                lock = None
            if lock is None:
                yield
                return
            with locked(lock):
                yield

    def sweep(self) -> None:
        """Remove findings of earlier starts of the machine, and old ones."""
        if self._folder is None:
            return
        with suppress(OSError):
            for entry in os.scandir(self._folder):
                if time.time() - entry.stat().st_mtime > KEPT_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)


def _finding(state: os.stat_result, shard: Shard) -> str:
    values = (shard.sha256, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, _start_of_machine())
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


@cache
def _start_of_machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: findings then hold for this process
        return f"{os.getpid()}-{time.time_ns()}"


def _sha256(handle: int) -> str:
    digest, position = hashlib.sha256(), 0
    while block := os.pread(handle, BLOCK, position):
        digest.update(block)
        position += len(block)
    return digest.hexdigest()
