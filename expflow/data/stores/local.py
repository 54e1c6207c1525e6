"""A folder of shards in the file system of this machine."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.data.stores.address import Address
from expflow.data.stores.download_buffer import size_and_sha256
from expflow.data.stores.open_shard import OpenShard, file_handle, memory_mapped
from expflow.data.stores.root import LARGEST_SMALL_FILE, Root
from expflow.data.stores.shard_prefetcher import ShardPrefetcher
from expflow.data.stores.verified_files import VerifiedFiles
from expflow.errors import DataMissing, ShardCorrupt, StorageUnwritable
from expflow.files import fsync_path, open_regular, read_bounded

if TYPE_CHECKING:
    from expflow.data.shards.manifest import ShardEntry


class LocalRoot(Root):
    """A folder of this machine's file system. A shard is hashed at its first use and whenever its file changed.

    Args:
        location: Where the folder lies.
        verified: Records which files were verified; by default one for this process alone.
    """

    def __init__(self, location: Address, verified: VerifiedFiles | None = None) -> None:
        super().__init__(location)
        self._verified = verified or VerifiedFiles()
        self._prefetcher = ShardPrefetcher(self._make_ready)

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self._location, "verified": self._verified}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["location"], state["verified"])  # type: ignore[misc]

    def read_bytes(self, name: str) -> bytes:
        """A small file, whole."""
        path = Path(self._location.file_address(name))
        try:
            return read_bounded(path, LARGEST_SMALL_FILE)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataMissing(f"{path}: there is no such file") from error
        except OSError as error:
            raise DataMissing(f"{path}: cannot be read ({error.strerror})") from error

    def write_file(self, name: str, local_path: Path) -> None:
        """Put a copy of ``local_path`` at ``name``, and check it."""
        path = Path(self._location.file_address(name))
        beside = path.with_name(f".{path.name}.writing-{os.getpid()}-{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy(local_path, beside)
            expected, written = size_and_sha256(local_path), size_and_sha256(beside)
            if expected != written:
                raise StorageUnwritable(
                    f"{path}: expected {_described(*expected)}, found {_described(*written)} after writing"
                )
            beside.rename(path)
            fsync_path(path.parent)
        except OSError as error:
            raise StorageUnwritable(f"{path}: cannot be written ({error.strerror})") from error
        finally:
            beside.unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        """Whether there is a file ``name``."""
        return Path(self._location.file_address(name)).is_file()

    def list(self) -> list[str]:
        """The names of the files in this folder."""
        try:
            return sorted(entry.name for entry in os.scandir(self._location.path) if entry.is_file())
        except OSError as error:
            raise DataMissing(f"{self.address}: cannot be listed ({error.strerror})") from error

    def download(self, name: str, path: Path) -> tuple[int, str]:
        """Copy the file ``name`` to ``path``; returns its size and sha256."""
        source = Path(self._location.file_address(name))
        if not source.is_file():
            raise DataMissing(f"{source}: there is no such file")
        _copy(source, path)
        return size_and_sha256(path)

    @contextmanager
    def hold(self, shard: ShardEntry) -> Iterator[OpenShard]:
        """The whole of ``shard``, verified."""
        path = Path(self._location.file_address(shard.name))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, shard, error) from error
        try:
            if problem := self._verified.problem(handle, shard):
                raise ShardCorrupt(f"{path}: {problem}")
            with memory_mapped(path, handle, shard.bytes) as open_shard:
                yield open_shard
        finally:
            os.close(handle)

    def prefetch(self, shard: ShardEntry) -> None:
        """Begin to make ``shard`` ready."""
        self._prefetcher.add(shard)

    def close(self) -> None:
        """End what runs in the background."""
        self._prefetcher.clear()

    def _make_ready(self, shard: ShardEntry) -> None:
        """Have the system read the file, and hash it unless it was verified before."""
        with suppress(OSError), file_handle(Path(self._location.file_address(shard.name))) as handle:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        with self.hold(shard):
            pass


def _copy(source: Path, target: Path) -> None:
    """Copy a file's bytes and have the disk hold them."""
    with open_regular(source) as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def _described(size: int, sha256: str) -> str:
    return f"{size} bytes of sha256 {sha256}"


def _unreadable(path: Path, shard: ShardEntry, error: OSError) -> DataMissing:
    if isinstance(error, FileNotFoundError):
        return DataMissing(f"{path}: expected {shard.bytes} bytes, found no file")
    return DataMissing(f"{path}: expected {shard.bytes} bytes, cannot be read ({error.strerror})")
