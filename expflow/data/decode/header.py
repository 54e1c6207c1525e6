"""The segments of a JPEG file in front of its pixels: just what tells which part of it can be decoded alone.

ITU-T T.81, annex B.
"""

from __future__ import annotations

from typing import NamedTuple

from expflow.data.decode.errors import Undecodable

START = b"\xff\xd8\xff"
END = b"\xff\xd9"

_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_SCAN, _RESTARTS = 0xDA, 0xDD


class Header(NamedTuple):
    """What a JPEG says of itself.

    ``frame`` and ``restarts_at`` are the offsets of the frame's and the restart interval's payload (0: none), ``scan``
    is where the entropy-coded bytes begin. ``unit`` is the size (height, width) in pixels of the blocks that are coded
    together (an MCU). ``simple`` is true for one Huffman-coded scan of grey or colour from top to bottom.
    """

    height: int
    width: int
    components: int
    unit: tuple[int, int]
    simple: bool
    restarts: int
    frame: int
    restarts_at: int
    scan: int


def read_header(content: bytes | bytearray | memoryview) -> Header:
    """The header of a JPEG. Raises Undecodable where it ends or contradicts itself before the first scan."""
    frame = restarts_at = interval = 0
    kind = 0
    at, end = 2, len(content)
    while at + 4 <= end:
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = (content[at + 2] << 8) | content[at + 3]
        if length < 2 or at + 2 + length > end:
            break
        if marker in _FRAMES and not frame:
            kind, frame = marker, at + 4
        elif marker == _RESTARTS and length >= 4:
            restarts_at = at + 4
            interval = (content[restarts_at] << 8) | content[restarts_at + 1]
        elif marker == _SCAN:
            if not frame:
                break
            return _header(content, kind, frame, interval, restarts_at, at, length)
        at += 2 + length
    raise Undecodable("a JPEG that ends before its pixels")


def _header(
    content: bytes | bytearray | memoryview,
    kind: int,
    frame: int,
    interval: int,
    restarts_at: int,
    at: int,
    length: int,
) -> Header:
    components = content[frame + 5]
    if components == 0 or frame + 6 + 3 * components > len(content):
        raise Undecodable("a JPEG without colour components")
    factors = [content[frame + 7 + 3 * each] for each in range(components)]
    across, down = max(factor >> 4 for factor in factors), max(factor & 15 for factor in factors)
    if not all(factor >> 4 and factor & 15 for factor in factors):
        raise Undecodable("a JPEG with a sampling factor of 0")
    if components == 1:
        across = down = 1  # the only component's blocks are coded one by one, whatever its factors say
    simple = kind in _SEQUENTIAL and content[frame] == 8 and components in (1, 3) and content[at + 4] == components
    return Header(
        height=(content[frame + 1] << 8) | content[frame + 2],
        width=(content[frame + 3] << 8) | content[frame + 4],
        components=components,
        unit=(8 * down, 8 * across),
        simple=simple,
        restarts=interval,
        frame=frame,
        restarts_at=restarts_at,
        scan=at + 2 + length,
    )
