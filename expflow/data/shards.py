"""Writing samples as WebDataset shards: plain tars of ``KEY.png`` and ``KEY.cls``, each with its checksum."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from expflow.data.codecs import encode
from expflow.data.manifest import Shard

SHARD_SAMPLES = 10_000
SHARD_BYTES = 64 * 2**20
KEY_LENGTH = 80
"""A tar header of the portable kind holds 100 bytes of name; this leaves room for the extension."""


def tar_writer(stream: BinaryIO) -> Any:
    """WebDataset's tar writer on ``stream``, taking bytes only. The only place that imports webdataset.

    It is switched to its secure mode (no ``pipe:`` commands, no unpickling) for the rest of this process. WDS_SECURE
    says the same, but only before the first import, and every child process would inherit it.
    """
    import webdataset
    import webdataset.utils

    webdataset.utils.enforce_security = True
    return webdataset.TarWriter(stream, encoder=False, mtime=0)


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
        self._buffer = io.BytesIO()
        self._tar: Any = None
        self._samples = 0

    def write(self, key: str, values: Mapping[str, Any]) -> None:
        """Add one sample: ``values`` maps each field to what its codec encodes."""
        if self._tar is None:
            self._buffer = io.BytesIO()
            self._tar = tar_writer(self._buffer)
        members = {extension: encode(extension, values[field]) for field, extension in self.fields.items()}
        self._tar.write({"__key__": key, **members})
        self._samples += 1
        if self._samples >= SHARD_SAMPLES or self._buffer.tell() >= SHARD_BYTES:
            self._close_shard()

    def _close_shard(self) -> None:
        """Write the tar that was gathered in memory, and its line of the manifest."""
        self._tar.close()
        content = self._buffer.getbuffer()
        name = f"{self.split}-{len(self.shards):06d}.tar"
        with (self.root / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.shards.append(Shard(name, self._samples, len(content), hashlib.sha256(content).hexdigest()))
        self._tar, self._samples = None, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._tar is not None:
            self._close_shard()
