"""Writing samples as WebDataset shards: plain tars of ``KEY.png`` and ``KEY.cls``, each with its checksum."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from expflow.data.shards.files import write_atomically
from expflow.data.shards.index import index_tar
from expflow.data.shards.manifest import ShardEntry, Sidecar
from expflow.data.shards.tar import BLOCK

KEY_LENGTH = 80
"""A tar header of the portable kind holds 100 bytes of name; this leaves room for the extension."""


def add_member(tar: BinaryIO, name: str, content: bytes) -> None:
    """Append one plain file to an archive. Equal samples make equal shards, whoever builds them and when.

    Args:
        tar: the archive, open for writing at its end.
        name: name of the file in the archive.
        content: the file's bytes.
    """
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o444
    tar.write(member.tobuf(tarfile.USTAR_FORMAT))
    tar.write(content)
    tar.write(bytes(-len(content) % BLOCK))


def sample_key(position: int, name: str) -> str:
    """Make a sample's key: unique, and close enough to its name to find the original by eye.

    Only letters, digits, ``_`` and ``-``: a dot would end the key in WebDataset, a slash would make folders.

    Args:
        position: number of the sample within its split.
        name: the sample's name in its source, such as a path.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
    return f"{position:08d}-{readable}"[:KEY_LENGTH]


class ShardWriter:
    """One shard, gathered in memory and written whole: a file of that name is a complete shard.

    Args:
        fields: maps each field to its extension in the shard, in the order of the members.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields, self.samples = dict(fields), 0
        self._buffer = io.BytesIO()

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add one sample.

        Args:
            key: the sample's key, unique in the shard.
            members: maps each field to its encoded bytes.
        """
        for extension, field in {extension: field for field, extension in self.fields.items()}.items():
            add_member(self._buffer, f"{key}.{extension}", members[field])  # several fields may share one
        self.samples += 1

    def close(self, path: Path) -> ShardEntry:
        """Write the shard and the index beside it.

        Args:
            path: the shard's file, ``*.tar``; the index has the same stem and ends in ``.idx``.

        Returns:
            The shard's entry for the manifest.
        """
        self._buffer.write(bytes(2 * BLOCK))  # the mark of an archive's end
        content = self._buffer.getvalue()
        index = index_tar(content, self.fields).to_bytes()
        index_path = path.with_suffix(".idx")
        write_atomically(index_path, index)
        write_atomically(path, content)
        sidecar = Sidecar(index_path.name, len(index), hashlib.sha256(index).hexdigest())
        return ShardEntry(path.name, self.samples, len(content), hashlib.sha256(content).hexdigest(), sidecar)
