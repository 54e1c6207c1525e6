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

from expflow.data.shards.manifest import LARGEST_MANIFEST, ShardEntry, Sidecar, how_to_rebuild
from expflow.data.shards.passed_over import PassedOver
from expflow.data.shards.tar import TarContent, members, split_name
from expflow.errors import ShardCorrupt
from expflow.files import read_bounded

MAGIC = b"expfidx1"
_HEAD = struct.Struct("<8sIIII")
_LONGEST_EXTENSION = 12
"""Longer ones are counted together: they are parts of names, and each would be a reason of its own."""

PICKLES = frozenset({"pkl", "pickle", "pyd", "pth", "pt", "joblib"})
"""Members that other readers would execute: a shard that holds one is refused, whoever wrote it."""

ALIKE = {"jpg": frozenset({"jpg", "jpeg", "png", "webp"})}
"""Extensions that a field of encoded images may have in shards of others; the content tells the format."""


@dataclass(frozen=True)
class ShardIndex:
    """Where the samples of one shard lie.

    Attributes:
        fields: names of the fields, in the order of the columns.
        offsets: (samples, fields), where each member's content begins in the tar, in bytes.
        sizes: (samples, fields), the members' sizes in bytes.
    """

    fields: tuple[str, ...]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    _keys: bytes = b""
    """The samples' keys as UTF-8, joined by NUL."""

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def keys(self) -> list[str]:
        """The samples' keys, decoded at the first access."""
        return self._keys.decode("utf-8", "surrogateescape").split("\0") if len(self) else []

    def only(self, fields: Mapping[str, str]) -> ShardIndex:
        """Return the same samples with some of the columns.

        Args:
            fields: the fields that are wanted, in that order.

        Raises:
            ValueError: the index lacks one of them.
        """
        if missing := [field for field in fields if field not in self.fields]:
            raise ValueError(f"the index lacks {', '.join(missing)}")
        if tuple(fields) == self.fields:
            return self
        columns = [self.fields.index(field) for field in fields]
        return ShardIndex(tuple(fields), self.offsets[:, columns], self.sizes[:, columns], self._keys)

    def shared(self, fields: Mapping[str, str], first_of: Mapping[str, str]) -> ShardIndex:
        """Return the same samples with a column for each field, also where several come from one member.

        Args:
            fields: maps each field to its extension.
            first_of: maps each extension to the field whose column there is.
        """
        columns = [self.fields.index(first_of[extension]) for extension in fields.values()]
        return ShardIndex(tuple(fields), self.offsets[:, columns], self.sizes[:, columns], self._keys)

    def to_bytes(self) -> bytes:
        """Return the content of the sidecar."""
        names = "\0".join(self.fields).encode()
        head = _HEAD.pack(MAGIC, len(self), len(self.fields), len(names), len(self._keys))
        numbers = (np.ascontiguousarray(column, dtype="<i8").tobytes() for column in (self.offsets, self.sizes))
        return b"".join([head, *numbers, names, self._keys])

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Parse what :meth:`to_bytes` wrote.

        Args:
            content: the bytes of the sidecar; the numbers of the result are views of them.

        Raises:
            ValueError: it is no index, or has another length than it states.
        """
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


def index_tar(
    content: TarContent, fields: Mapping[str, str], *, extras: bool = False, passed_over: PassedOver | None = None
) -> ShardIndex:
    """Index a whole tar by one pass over its headers.

    Args:
        content: the bytes of the tar.
        fields: maps each field to its extension.
        extras: whether members of other extensions are passed over, as shards of others may have them.
        passed_over: where those members are counted.

    Raises:
        ValueError: the tar is damaged, a sample is not complete or would not be read for the dots in its name, or there
            are members that must not be there.
    """
    first_of = {extension: field for field, extension in reversed([*fields.items()])}
    stored = {field: extension for field, extension in fields.items() if first_of[extension] == field}
    rows = _Rows(stored)
    others = _OtherMembers(stored, passed_over if passed_over is not None else PassedOver())
    column = _columns(stored, extras)
    for name, offset, size in members(content):
        key, extension = split_name(name) if not (extras and _hidden(name)) else ("", "")
        if extension.rpartition(".")[2] in PICKLES:
            raise ValueError(f"member {name!r} is none of the fields: pickled content is refused")
        if extension in column:
            rows.add(key, column[extension], name, (offset, size))
        elif extras:
            others.add(name, key, extension)
        else:
            raise ValueError(f"member {name!r} is none of the fields {', '.join(sorted(column))}")
    return rows.finished().shared(fields, first_of)


class _Rows:
    """The samples of a tar, gathered member by member."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields
        self._rows: list[list[tuple[int, int]]] = []
        self._keys: list[str] = []
        self._row: dict[int, tuple[int, int]] = {}
        self._names: dict[int, str] = {}

    def add(self, key: str, column: int, name: str, place: tuple[int, int]) -> None:
        """Add a field of a sample. Raises ValueError where the sample before lacks one, or this one has it already."""
        if not self._keys or key != self._keys[-1]:
            self._close_row()
            self._keys.append(key)
            self._row, self._names = {}, {}
        if (earlier := self._names.get(column)) == name:
            raise ValueError(f"member {name!r} is there twice")
        if earlier is not None:
            field = list(self._fields)[column]
            raise ValueError(f"sample {key!r} has two of the field {field}: {earlier!r} and {name!r}")
        self._row[column], self._names[column] = place, name

    def finished(self) -> ShardIndex:
        """The index. Raises ValueError where the last sample lacks a field."""
        self._close_row()
        table = np.asarray(self._rows, dtype=np.int64).reshape(len(self._rows), len(self._fields), 2)
        offsets, sizes = (np.ascontiguousarray(table[:, :, axis]) for axis in (0, 1))
        keys = "\0".join(self._keys).encode("utf-8", "surrogateescape")
        return ShardIndex(tuple(self._fields), offsets, sizes, keys)

    def _close_row(self) -> None:
        if not self._keys:
            return
        if missing := [field for number, field in enumerate(self._fields) if number not in self._row]:
            raise ValueError(f"sample {self._keys[-1]!r} lacks {', '.join(missing)}")
        self._rows.append([self._row[number] for number in range(len(self._fields))])


class _OtherMembers:
    """The members of shards of others that are no fields: counted, and refused where they would be a whole sample.

    A key ends at the first dot, so ``img.001.jpg`` and ``img.001.cls`` are members of the sample ``img``, and whoever
    wrote them may have meant a sample ``img.001``.
    """

    def __init__(self, fields: Mapping[str, str], passed_over: PassedOver) -> None:
        self._columns, self._passed_over = _columns(fields, extras=True), passed_over
        self._needed = len(set(self._columns.values()))
        self._sample, self._seen = ("", ""), set[int]()

    def add(self, name: str, key: str, extension: str) -> None:
        """Count a member. Raises ValueError where it completes a sample that would be lost."""
        if not extension:
            self._passed_over.add("hidden members, or members without extension", name)
            return
        before, _, last = extension.rpartition(".")
        self._passed_over.add(f"members .{last if len(last) <= _LONGEST_EXTENSION else '…'} that are no field", name)
        if not before or last not in self._columns:
            return
        if (key, before) != self._sample:
            self._sample, self._seen = (key, before), set()
        self._seen.add(self._columns[last])
        if len(self._seen) == self._needed:
            raise ValueError(
                f"the sample {f'{key}.{before}'!r} would not be read: the key of a sample ends at the first dot of its"
                f" name, so {name!r} belongs to {key!r}; name it without the dot"
            )


def _columns(fields: Mapping[str, str], extras: bool) -> dict[str, int]:
    """The column of each extension; where the shards are someone else's, also of those that mean the same."""
    column = {extension: number for number, extension in enumerate(fields.values())}
    alike = {other: column[extension] for extension in column if extras for other in ALIKE.get(extension, ())}
    return {**alike, **column}


def _hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def read_index(
    source: Path | bytes, shard: ShardEntry, fields: Mapping[str, str], *, extras: bool = False
) -> ShardIndex:
    """Read the index of a shard, or make it from the whole tar where an older version wrote none.

    Args:
        source: folder of the shards, or the bytes of the sidecar (of the whole tar where the shard has no sidecar).
        shard: the shard's entry in the manifest.
        fields: maps each field that is wanted to its extension; the columns have their order.
        extras: whether the tar may hold members of other extensions.

    Raises:
        ShardCorrupt: the file is not what the manifest says.
    """
    where = source / (shard.index or shard).name if isinstance(source, Path) else (shard.index or shard).name
    try:
        content = source if isinstance(source, bytes) else _read(source, shard.index or shard)
        _check_content(content, shard)
        index = ShardIndex.from_bytes(content) if shard.index else index_tar(content, fields, extras=extras)
        index = index.only(fields)
        _check_index(index, shard)
        return index
    except (OSError, ValueError) as error:
        mend = f"; {how_to_rebuild(source)}" if isinstance(source, Path) else ""
        raise ShardCorrupt(f"{where}: {error}{mend}") from error


def _read(folder: Path, file: ShardEntry | Sidecar) -> bytes:
    return read_bounded(folder / file.name, max(file.bytes, LARGEST_MANIFEST))


def _check_content(content: bytes, shard: ShardEntry) -> None:
    """Raise ValueError unless ``content`` is what the manifest says: by size and sha256."""
    expected = shard.index or shard
    if len(content) != expected.bytes:
        raise ValueError(f"expected {expected.bytes} bytes, found {len(content)}")
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected.sha256:
        raise ValueError(f"expected sha256 {expected.sha256}, found {actual}")


def _check_index(index: ShardIndex, shard: ShardEntry) -> None:
    """Raise ValueError where an index has another number of samples than the shard, or leads out of the file."""
    if len(index) != shard.samples:
        raise ValueError(f"expected {shard.samples} samples, found {len(index)}")
    inside = (index.offsets >= 0) & (index.sizes >= 0) & (index.offsets <= shard.bytes - index.sizes)
    if not inside.all():
        raise ValueError(f"it leads out of the {shard.bytes} bytes of {shard.name}")
