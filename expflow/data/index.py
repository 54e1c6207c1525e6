"""Where each sample's fields lie in a shard, so that any of them is read by one ``pread``.

The sidecar of a shard, all numbers little-endian: eight bytes of magic; the counts of samples and fields and the
lengths of the two texts as uint32; the offsets and then the sizes as int64, sample by sample; the fields' names and the
samples' keys as UTF-8, each list joined by NUL. Its sha256 stands in the manifest. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from expflow.data.manifest import Shard, how_to_rebuild
from expflow.data.tar import Content, members, split_name
from expflow.errors import ShardCorrupt

MAGIC = b"expfidx1"
_HEAD = struct.Struct("<8sIIII")

PICKLES = frozenset({"pkl", "pickle", "pyd", "pth", "pt", "joblib"})
"""Members that other readers would execute: a shard that holds one is refused, whoever wrote it."""

ALIKE = {"jpg": frozenset({"jpg", "jpeg", "png", "webp"})}
"""Extensions that a field of encoded images may have in shards of others; its content says what it is."""


@dataclass(frozen=True)
class Index:
    """One shard's samples: ``offsets`` and ``sizes`` are (samples, fields): bytes of the tar, columns as ``fields``."""

    fields: tuple[str, ...]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    _keys: bytes = b""

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def keys(self) -> list[str]:
        """The samples' keys, decoded when first asked for."""
        return self._keys.decode("utf-8", "surrogateescape").split("\0") if len(self) else []

    def only(self, fields: Mapping[str, str]) -> Index:
        """The same samples with the columns ``fields``, in that order. Raises ValueError where one is not there."""
        if missing := [field for field in fields if field not in self.fields]:
            raise ValueError(f"the index lacks {', '.join(missing)}")
        if tuple(fields) == self.fields:
            return self
        columns = [self.fields.index(field) for field in fields]
        return Index(tuple(fields), self.offsets[:, columns], self.sizes[:, columns], self._keys)

    def to_bytes(self) -> bytes:
        """The sidecar's content."""
        names = "\0".join(self.fields).encode()
        head = _HEAD.pack(MAGIC, len(self), len(self.fields), len(names), len(self._keys))
        numbers = (np.ascontiguousarray(each, dtype="<i8").tobytes() for each in (self.offsets, self.sizes))
        return b"".join([head, *numbers, names, self._keys])

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What :meth:`to_bytes` wrote; its numbers are views of ``content``. Raises ValueError where it is none."""
        if len(content) < _HEAD.size:
            raise ValueError(f"expected an index, found {len(content)} bytes")
        magic, samples, count, names, keys = _HEAD.unpack_from(content)
        expected = _HEAD.size + 16 * samples * count + names + keys
        if magic != MAGIC or len(content) != expected:
            raise ValueError(f"expected an index of {expected} bytes, found {magic!r} and {len(content)} bytes")
        numbers = np.frombuffer(content, dtype="<i8", count=2 * samples * count, offset=_HEAD.size)
        offsets, sizes = numbers.astype(np.int64, copy=False).reshape(2, samples, count)
        texts = content[expected - names - keys :]
        return cls(tuple(texts[:names].decode().split("\0")), offsets, sizes, texts[names:])


def index_tar(content: Content, fields: Mapping[str, str], *, extras: bool = False) -> Index:
    """The index of a whole tar, by one pass over its headers; ``fields`` maps a field to its extension.

    ``extras``: members of other extensions are passed over, as shards of others may have them. Raises ValueError at
    damage, at a sample that is not complete, and at members that must not be there.
    """
    rows: list[list[tuple[int, int]]] = []
    keys: list[str] = []
    column = _columns(fields, extras)
    row: dict[int, tuple[int, int]] = {}
    for name, offset, size in members(content):
        key, extension = split_name(name) if not (extras and _hidden(name)) else ("", "")
        if extension.rpartition(".")[2] in PICKLES:
            raise ValueError(f"member {name!r} is none of the fields: pickled content is refused")
        if extension not in column:
            if extras:
                continue
            raise ValueError(f"member {name!r} is none of the fields {', '.join(sorted(column))}")
        if not keys or key != keys[-1]:
            _complete(keys, row, fields, rows)
            keys.append(key)
            row = {}
        if column[extension] in row:
            raise ValueError(f"member {name!r} is there twice")
        row[column[extension]] = (offset, size)
    _complete(keys, row, fields, rows)
    table = np.asarray(rows, dtype=np.int64).reshape(len(rows), len(fields), 2)
    offsets, sizes = (np.ascontiguousarray(table[:, :, axis]) for axis in (0, 1))
    return Index(tuple(fields), offsets, sizes, "\0".join(keys).encode("utf-8", "surrogateescape"))


def _columns(fields: Mapping[str, str], extras: bool) -> dict[str, int]:
    """The column of each extension; where the shards are someone else's, also of those that mean the same."""
    column = {extension: number for number, extension in enumerate(fields.values())}
    alike = {other: column[extension] for extension in column if extras for other in ALIKE.get(extension, ())}
    return {**alike, **column}


def _hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _complete(
    keys: list[str], row: dict[int, tuple[int, int]], fields: Mapping[str, str], rows: list[list[tuple[int, int]]]
) -> None:
    """Add the row of the last key, if there is one."""
    if not keys:
        return
    if missing := [field for number, field in enumerate(fields) if number not in row]:
        raise ValueError(f"sample {keys[-1]!r} lacks {', '.join(missing)}")
    rows.append([row[number] for number in range(len(fields))])


def read_index(source: Path | bytes, shard: Shard, fields: Mapping[str, str], *, extras: bool = False) -> Index:
    """The index of ``shard`` with the columns ``fields`` (a field's name to its extension).

    ``source`` is the folder of the shards, or the bytes of the sidecar; of the whole tar where the shard has no
    sidecar, because an older version wrote it. Raises ShardCorrupt where what is there is not what the manifest says.
    """
    where = source / (shard.index or shard).name if isinstance(source, Path) else (shard.index or shard).name
    try:
        content = source if isinstance(source, bytes) else (source / (shard.index or shard).name).read_bytes()
        _hold(content, shard)
        index = Index.from_bytes(content) if shard.index else index_tar(content, fields, extras=extras)
        return _within(index.only(fields), shard)
    except (OSError, ValueError) as error:
        mend = f"; {how_to_rebuild(source)}" if isinstance(source, Path) else ""
        raise ShardCorrupt(f"{where}: {error}{mend}") from error


def _hold(content: bytes, shard: Shard) -> None:
    """Raise ValueError unless ``content`` is what the manifest says: by size and sha256."""
    expected = shard.index or shard
    if len(content) != expected.bytes:
        raise ValueError(f"expected {expected.bytes} bytes, found {len(content)}")
    found = hashlib.sha256(content).hexdigest()
    if found != expected.sha256:
        raise ValueError(f"expected sha256 {expected.sha256}, found {found}")


def _within(index: Index, shard: Shard) -> Index:
    """``index`` if it fits the shard. Raises ValueError where it has other samples, or leads out of the file."""
    if len(index) != shard.samples:
        raise ValueError(f"expected {shard.samples} samples, found {len(index)}")
    inside = (index.offsets >= 0) & (index.sizes >= 0) & (index.offsets <= shard.bytes - index.sizes)
    if not inside.all():
        raise ValueError(f"it leads out of the {shard.bytes} bytes of {shard.name}")
    return index
