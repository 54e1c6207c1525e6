"""Where each file of a tar lies, by one pass over its headers.

The standard library's reader is not used, because it makes an object of twenty attributes per member, which is five
times slower than reading the members themselves, and because it takes an archive that was cut between two members for a
whole one. Ustar, GNU long names and pax paths are read; links, devices and sparse files never.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 512
TarContent = bytes | memoryview
"""A whole archive: bytes that were read, or a view of a mapped file."""

_FILES = frozenset({b"0", b"\0", b"7"})
_FOLDER, _LONG_NAME, _PAX, _PAX_GLOBAL = b"5", b"L", b"x", b"g"
_LARGEST_NAME = 2**20
_LONGEST_NUMBER = 20
"""Digits of a size."""
_END = bytes(BLOCK)


class TarDamaged(ValueError):
    """An archive is not what a tar program writes: cut off, or with a header that is none."""


class TarMember(NamedTuple):
    """One plain file in an archive.

    Attributes:
        name: path in the archive; bytes that are not UTF-8 are kept as surrogate escapes.
        offset: where its content begins in the archive, in bytes.
        size: length of its content in bytes.
    """

    name: str
    offset: int
    size: int


def members(content: TarContent, *, start: int = 0) -> Iterator[TarMember]:
    """Iterate over the plain files of an archive, in order.

    Args:
        content: the bytes in which the archive lies.
        start: where it begins in ``content``, in bytes.

    Raises:
        TarDamaged: a header is damaged, or the content was cut off (also between two members: an archive ends with an
            empty block); the message says where.
        ValueError: a member is no plain file.
    """
    view, position, long_name, size_of_next = memoryview(content), start, "", -1
    while True:
        header = bytes(view[position : position + BLOCK])
        if len(header) < BLOCK:
            raise TarDamaged(f"it ends at byte {len(view)} without the mark of an archive's end: it was cut off")
        if header == _END:
            return
        size, kind = _checked_size(header, position), header[156:157]
        size = size_of_next if size_of_next >= 0 and kind in _FILES else size
        first = position + BLOCK
        if first + size > len(view):
            raise TarDamaged(f"a member of {size} bytes begins at byte {first}, and the archive has {len(view)}")
        if kind in (_LONG_NAME, _PAX, _PAX_GLOBAL):
            long_name, size_of_next = _extension(kind, bytes(view[first : first + min(size, _LARGEST_NAME)]), long_name)
        else:
            name = long_name or _name(header)
            if kind in _FILES:
                yield TarMember(name, first, size)
            elif kind != _FOLDER:
                raise ValueError(f"member {name!r} is refused: only plain files are read")
            long_name, size_of_next = "", -1
        position = first + -(-size // BLOCK) * BLOCK


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into its key and its extension in lower case, at the first dot, as WebDataset does.

    Args:
        name: path in the archive.

    Raises:
        ValueError: the name leads out of the archive's own tree, or is that of a hidden file.
    """
    folder, base = posixpath.split(name)
    if not base or name.startswith("/") or ".." in folder.split("/") or base.startswith(".") or "\0" in name:
        raise ValueError(f"member {name!r} is refused: only plain files with relative names are read")
    stem, _, extension = base.partition(".")
    return posixpath.join(folder, stem), extension.lower()


def _checked_size(header: bytes, position: int) -> int:
    """Return the size that a header states. Raises ValueError unless its checksum is right."""
    try:
        stated = int(header[148:156].strip(b" \0") or b"-1", 8)
        size = _number(header[124:136])
    except ValueError:
        raise TarDamaged(f"no tar header at byte {position}") from None
    if stated != sum(header) - sum(header[148:156]) + 8 * 32:
        raise TarDamaged(f"damaged tar header at byte {position}")
    return size


def _number(field: bytes) -> int:
    """Parse a number of a header: octal digits, or GNU's binary form, which has the first bit set, for large ones."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit():
        raise ValueError(f"{digits!r} is no size")  # int() would take a sign, with which a reader goes back for ever
    return int(digits, 8)


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _extension(kind: bytes, content: bytes, name: str) -> tuple[str, int]:
    """Parse the name and the size that a GNU or pax header gives to the next member; "" and -1 where it gives none."""
    if kind == _LONG_NAME:
        return _text(content), -1
    records = dict(_pax_records(content))
    if kind == _PAX_GLOBAL:
        if records.keys() & {b"path", b"size"}:
            raise ValueError("a pax header that renames all members is refused")
        return name, -1
    if any(key.startswith(b"GNU.sparse") for key in records):
        raise ValueError("a sparse member is refused: only plain files are read")
    named = records.get(b"path", b"").decode("utf-8", "surrogateescape")
    size = records.get(b"size")
    if size is not None and not (size.isdigit() and len(size) <= _LONGEST_NUMBER):
        raise TarDamaged(f"a pax header states the size {size[:40]!r}")
    return named or name, int(size) if size is not None else -1


def _pax_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over lines ``LENGTH KEY=VALUE``, where LENGTH counts the whole line."""
    position = 0
    while position < len(content) and content[position] != 0:
        length, space, _ = content[position : position + 24].partition(b" ")
        if not space or not length.isdigit() or int(length) <= len(length) + 2:
            raise TarDamaged("damaged pax header")
        line = content[position + len(length) + 1 : position + int(length) - 1]
        key, equals, value = line.partition(b"=")
        if not equals:
            raise TarDamaged("damaged pax header")
        yield key, value
        position += int(length)
