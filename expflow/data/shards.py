"""Writing samples as WebDataset shards: plain tars of ``KEY.png`` and ``KEY.cls``, each with its checksum."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from expflow.data.index import index_tar
from expflow.data.manifest import Shard, Sidecar
from expflow.data.tar import BLOCK

SHARD_SAMPLES = 10_000
SHARD_BYTES = 64 * 2**20
KEY_LENGTH = 80
"""A tar header of the portable kind holds 100 bytes of name; this leaves room for the extension."""


def add_member(tar: BinaryIO, name: str, content: bytes) -> None:
    """Add ``content`` as a plain file; equal samples make equal shards, whoever builds them and when."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o444
    tar.write(member.tobuf(tarfile.USTAR_FORMAT))
    tar.write(content)
    tar.write(bytes(-len(content) % BLOCK))


def sample_key(position: int, name: str) -> str:
    """The key of sample number ``position``: unique, and close enough to ``name`` to find the original by eye.

    Only letters, digits, ``_`` and ``-``: a dot would end the key in WebDataset, a slash would make folders.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
    return f"{position:08d}-{readable}"[:KEY_LENGTH]


class ShardWriter:
    """One shard, gathered in memory and written whole: a file of that name is a complete shard."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields, self.samples = dict(fields), 0
        self._buffer = io.BytesIO()

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add one sample; ``members`` maps each field to its encoded bytes."""
        for field, extension in self.fields.items():
            add_member(self._buffer, f"{key}.{extension}", members[field])
        self.samples += 1

    def close(self, path: Path) -> Shard:
        """Write the shard to ``path`` and its index beside it, and say what was written."""
        self._buffer.write(bytes(2 * BLOCK))  # the mark of an archive's end
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
