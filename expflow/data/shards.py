"""Writing samples as WebDataset shards: plain tars of ``KEY.png`` and ``KEY.cls``, each with its checksum."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from expflow.data.codecs import encode
from expflow.data.index import index_tar
from expflow.data.manifest import Shard, Sidecar

SHARD_SAMPLES = 10_000
SHARD_BYTES = 64 * 2**20
KEY_LENGTH = 80
"""A tar header of the portable kind holds 100 bytes of name; this leaves room for the extension."""


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add ``content`` as a plain file; equal samples make equal shards, whoever builds them and when."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o444
    tar.addfile(member, io.BytesIO(content))


def sample_key(position: int, name: str) -> str:
    """The key of sample number ``position``: unique, and close enough to ``name`` to find the original by eye.

    Only letters, digits, ``_`` and ``-``: a dot would end the key in WebDataset, a slash would make folders.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
    return f"{position:08d}-{readable}"[:KEY_LENGTH]


class SplitWriter:
    """Writes one split into ``root`` as ``SPLIT-000000.tar``…; ``shards`` lists what is complete and on disk.

    ``fields`` maps a field to its extension. A shard is closed at SHARD_SAMPLES samples or SHARD_BYTES bytes.
    """

    def __init__(self, root: Path, split: str, fields: Mapping[str, str]) -> None:
        self.root, self.split, self.fields = root, split, dict(fields)
        self.shards: list[Shard] = []
        self._shard: ShardWriter | None = None

    def write(self, key: str, values: Mapping[str, Any]) -> None:
        """Add one sample: ``values`` maps each field to what its codec encodes."""
        if self._shard is None:
            self._shard = ShardWriter(self.fields)
        self._shard.add(key, {field: encode(extension, values[field]) for field, extension in self.fields.items()})
        if self._shard.samples >= SHARD_SAMPLES or self._shard.size >= SHARD_BYTES:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self.shards.append(self._shard.close(self.root / f"{self.split}-{len(self.shards):06d}.tar"))
        self._shard = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._close_shard()


class ShardWriter:
    """One shard, gathered in memory and written whole: a file of that name is a complete shard."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields, self.samples = dict(fields), 0
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  see close

    @property
    def size(self) -> int:
        """How many bytes the shard has by now."""
        return self._buffer.tell()

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add one sample; ``members`` maps each field to its encoded bytes."""
        for field, extension in self.fields.items():
            add_member(self._tar, f"{key}.{extension}", members[field])
        self.samples += 1

    def close(self, path: Path) -> Shard:
        """Write the shard to ``path`` and its index beside it, and say what was written."""
        self._tar.close()
        content = self._buffer.getvalue()
        index = index_tar(content, self.fields).to_bytes()
        sidecar = path.with_suffix(".idx")
        write_whole(sidecar, index)
        write_whole(path, content)
        stamp = Sidecar(sidecar.name, len(index), hashlib.sha256(index).hexdigest())
        return Shard(path.name, self.samples, len(content), hashlib.sha256(content).hexdigest(), stamp)


def write_whole(path: Path, content: bytes) -> None:
    """Have ``content`` on the disk before it gets its name."""
    unfinished = path.with_name(f".{path.name}.part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
