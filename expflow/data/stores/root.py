"""A folder of shards, wherever it lies: the interface of local and remote ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.data.stores.address import Address
from expflow.data.stores.open_shard import OpenShard

if TYPE_CHECKING:
    from expflow.data.shards.manifest import ShardEntry

LARGEST_SMALL_FILE = 256 * 2**20
"""Bytes of a manifest, or of another file that is read into memory without its size being known."""


class Root(ABC):
    """A folder of shards. Safe to use from many threads, and to pickle to another process.

    Args:
        location: Where the folder lies.
    """

    def __init__(self, location: Address) -> None:
        self._location = location

    @property
    def address(self) -> str:
        """Where the folder lies, for messages and logs: without a query."""
        return self._location.display

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system."""
        return self._location.is_local

    @abstractmethod
    def read_bytes(self, name: str) -> bytes:
        """Read a small file whole.

        Args:
            name: The file's name relative to the folder, as in every method.

        Raises:
            DataMissing: There is no such file.
            DataUnreachable: The store does not give it.
        """

    @abstractmethod
    def write_file(self, name: str, local_path: Path) -> None:
        """Put a copy of a file into the folder, and check it. Readers see all of it or nothing.

        Args:
            name: The file's name in the folder.
            local_path: The file on this machine that is copied.

        Raises:
            StorageUnwritable: It cannot be written, or is not what was written.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether the folder has a file of this name.

        Args:
            name: The file's name relative to the folder.
        """

    @abstractmethod
    def list(self) -> list[str]:
        """The names of the files in this folder, sorted; not of those in folders below it.

        Raises:
            DataMissing: There is no such folder.
            DataUnreachable: The store cannot list (HTTP), or does not answer.
        """

    @abstractmethod
    def download(self, name: str, path: Path) -> tuple[int, str]:
        """Copy a file of which nothing is known to this machine.

        Args:
            name: The file's name in the folder.
            path: Where the copy is written.

        Returns:
            The copy's size in bytes and its sha256 as a hex digest.

        Raises:
            DataMissing: There is no such file.
            StorageUnwritable: The copy cannot be written.
        """

    @abstractmethod
    def hold(self, shard: ShardEntry) -> AbstractContextManager[OpenShard]:
        """Open a whole, verified shard for as long as the context lasts; it is not evicted meanwhile.

        Args:
            shard: The manifest's entry of the shard.

        Raises:
            DataMissing: There is no such file. Each message names the shard, what was expected and what was found.
            DataUnreachable: The store does not give it.
            ShardCorrupt: It is not what its entry says.
        """

    @abstractmethod
    def prefetch(self, shard: ShardEntry) -> None:
        """Begin to make a shard ready in the background. Never blocks; a failure is raised when the shard is held.

        Args:
            shard: The manifest's entry of the shard.
        """

    def close(self) -> None:  # noqa: B027 - a subclass without resources has nothing to close
        """End what runs in the background. The root can be used again afterwards."""
