"""PNG files of one channel of 8 bits whose rows are stored as they are: masks, read without an image library.

Areas of one class compress as well without PNG's filters, and what is inflated is then the pixels themselves. Pillow
takes several times as long: it inflates in small pieces and copies each row twice.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.decode.errors import check_size

inflating: Any = zlib
try:
    from zlib_ng import zlib_ng
except ImportError:  # there is no wheel of it for this machine
    pass
else:
    inflating = zlib_ng  # inflates masks in a seventh of the time

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_PLAIN = {(8, 0, 0, 0, 0), (8, 3, 0, 0, 0)}
"""Bits, colour type (grey, places in a palette), compression, filter method and interlacing that are read here."""
_ANIMATION = b"acTL"
_LEVEL = 9
"""Inflates faster than lower levels but the first three, and takes half of their room."""


def encode_plain_png(pixels_hw: NDArray[np.uint8]) -> bytes:
    """Return a PNG of 8-bit greys.

    Args:
        pixels_hw: (height, width).
    """
    height, width = pixels_hw.shape
    rows = np.zeros((height, width + 1), np.uint8)  # the first byte of a row names its filter: 0, none
    rows[:, 1:] = pixels_hw
    header = _HEADER.pack(width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), _LEVEL)), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def decode_plain_png(content: bytes | memoryview) -> NDArray[np.uint8] | None:
    """Return the greys, or the places in the palette, (height, width), read-only; None where it is another PNG, or no
    whole one: Pillow reads it, or says what is wrong with it.

    Args:
        content: The bytes of a file.

    Raises:
        Undecodable: It is empty or too large.
    """
    chunks = list(_chunks(memoryview(content)))
    kinds = [kind for kind, _ in chunks]
    if not kinds or (kinds[0], kinds[-1]) != (b"IHDR", b"IEND") or _ANIMATION in kinds or kinds.count(b"IHDR") > 1:
        return None
    if len(chunks[0][1]) != _HEADER.size:
        return None
    width, height, *form = _HEADER.unpack(chunks[0][1])
    if tuple(form) not in _PLAIN:
        return None
    check_size(height, width)
    data = [body for kind, body in chunks if kind == b"IDAT"]
    return _rows(data[0] if len(data) == 1 else b"".join(data), height, width)


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The chunks of a PNG, up to the first that is damaged."""
    if view[: len(_SIGNATURE)] != _SIGNATURE:
        return
    offset = len(_SIGNATURE)
    while offset + 12 <= len(view):
        end = offset + 8 + int.from_bytes(view[offset : offset + 4], "big")
        if int.from_bytes(view[end : end + 4], "big") != inflating.crc32(view[offset + 4 : end]):
            return
        yield bytes(view[offset + 4 : offset + 8]), view[offset + 8 : end]
        offset = end + 4


def _rows(compressed: bytes | memoryview, height: int, width: int) -> NDArray[np.uint8] | None:
    """The pixels; None where rows are filtered, or there are more or fewer than the header says."""
    size = height * (width + 1)
    inflater = inflating.decompressobj()
    try:
        rows = inflater.decompress(compressed, size + 1)  # not more, whatever the bytes would make
    except inflating.error:
        return None
    if len(rows) != size or not inflater.eof:
        return None
    pixels = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
    return None if pixels[:, 0].any() else pixels[:, 1:]
