"""A folder of shards, wherever it lies: the interface, and the local one."""

from __future__ import annotations

import os
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.data.stores.address import Address
from expflow.data.stores.ahead import Ahead
from expflow.data.stores.arriving import read_back
from expflow.data.stores.held import Held, mapped, opened
from expflow.data.stores.verified import Verified
from expflow.errors import DataMissing, ShardCorrupt, StorageUnwritable
from expflow.files import sync

if TYPE_CHECKING:
    from expflow.data.manifest import Shard


class Root(ABC):
    """A folder of shards. Safe to use from many threads, and to pickle to another process.

    ``address`` is for messages: it holds no query.
    """

    def __init__(self, where: Address) -> None:
        self._where = where

    @property
    def address(self) -> str:
        """Where it lies, fit for a log."""
        return self._where.shown

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system."""
        return self._where.is_local

    @abstractmethod
    def read_bytes(self, name: str) -> bytes:
        """A small file, whole. Raises DataMissing where there is none, DataUnreachable where it does not come."""

    @abstractmethod
    def write_file(self, name: str, local_path: Path) -> None:
        """Put a copy of ``local_path`` at ``name``: readers see all of it or nothing. Checked after it was written.

        Raises StorageUnwritable.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is a file ``name``."""

    @abstractmethod
    def list(self) -> list[str]:
        """The names of the files in this folder, sorted; not of those in folders below it."""

    @abstractmethod
    def download(self, name: str, path: Path) -> tuple[int, str]:
        """Copy the file ``name``, of which nothing is known, to ``path``; returns its size and sha256."""

    @abstractmethod
    def hold(self, shard: Shard) -> AbstractContextManager[Held]:
        """The whole of ``shard``, verified, for as long as the context lasts: nothing evicts it meanwhile.

        Raises DataMissing, DataUnreachable or ShardCorrupt, naming the shard, what was expected and what was found.
        """

    @abstractmethod
    def prefetch(self, shard: Shard) -> None:
        """Begin to make ``shard`` ready in the background. Its failures show when it is held; never blocks."""

    def close(self) -> None:  # noqa: B027 - a local root has nothing to close
        """End what runs in the background. The root can be used again afterwards."""


class LocalRoot(Root):
    """A folder of this machine's file system. A shard is hashed at its first use and whenever its file changed."""

    def __init__(self, where: Address, verified: Verified | None = None) -> None:
        super().__init__(where)
        self._verified = verified or Verified()
        self._ahead = Ahead(self._make_ready)

    def __getstate__(self) -> dict[str, Any]:
        return {"where": self._where, "verified": self._verified}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["where"], state["verified"])  # type: ignore[misc]

    def read_bytes(self, name: str) -> bytes:
        """A small file, whole."""
        path = Path(self._where.of(name))
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataMissing(f"{path}: there is no such file") from error
        except OSError as error:
            raise DataMissing(f"{path}: cannot be read ({error.strerror})") from error

    def write_file(self, name: str, local_path: Path) -> None:
        """Put a copy of ``local_path`` at ``name``, and check it."""
        path = Path(self._where.of(name))
        beside = path.with_name(f".{path.name}.writing-{os.getpid()}-{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy(local_path, beside)
            expected, found = read_back(local_path), read_back(beside)
            if expected != found:
                raise StorageUnwritable(f"{path}: expected {_said(*expected)}, found {_said(*found)} after writing")
            beside.rename(path)
            sync(path.parent)
        except OSError as error:
            raise StorageUnwritable(f"{path}: cannot be written ({error.strerror})") from error
        finally:
            beside.unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        """Whether there is a file ``name``."""
        return Path(self._where.of(name)).is_file()

    def list(self) -> list[str]:
        """The names of the files in this folder."""
        try:
            return sorted(entry.name for entry in os.scandir(self._where.path) if entry.is_file())
        except OSError as error:
            raise DataMissing(f"{self.address}: cannot be listed ({error.strerror})") from error

    def download(self, name: str, path: Path) -> tuple[int, str]:
        """Copy the file ``name`` to ``path``; returns its size and sha256."""
        source = Path(self._where.of(name))
        if not source.is_file():
            raise DataMissing(f"{source}: there is no such file")
        _copy(source, path)
        return read_back(path)

    @contextmanager
    def hold(self, shard: Shard) -> Iterator[Held]:
        """The whole of ``shard``, verified."""
        path = Path(self._where.of(shard.name))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, shard, error) from error
        try:
            if problem := self._verified.problem(handle, shard):
                raise ShardCorrupt(f"{path}: {problem}")
            with mapped(path, handle, shard.bytes) as held:
                yield held
        finally:
            os.close(handle)

    def prefetch(self, shard: Shard) -> None:
        """Begin to make ``shard`` ready."""
        self._ahead.add(shard)

    def close(self) -> None:
        """End what runs in the background."""
        self._ahead.clear()

    def _make_ready(self, shard: Shard) -> None:
        """Have the system read the file, and hash it if nobody has."""
        with suppress(OSError), opened(Path(self._where.of(shard.name))) as handle:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        with self.hold(shard):
            pass


def _copy(source: Path, target: Path) -> None:
    """Copy a file's bytes and have the disk hold them."""
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())


def _said(size: int, sha256: str) -> str:
    return f"{size} bytes of sha256 {sha256}"


def _unreadable(path: Path, shard: Shard, error: OSError) -> DataMissing:
    if isinstance(error, FileNotFoundError):
        return DataMissing(f"{path}: expected {shard.bytes} bytes, found no file")
    return DataMissing(f"{path}: expected {shard.bytes} bytes, cannot be read ({error.strerror})")
