"""The segments of a JPEG file in front of its pixels: just what tells which part of it can be decoded alone.

ITU-T T.81, annex B.
"""

from __future__ import annotations

from typing import NamedTuple

from expflow.data.decode.errors import Undecodable

START_OF_IMAGE = b"\xff\xd8\xff"
END_OF_IMAGE = b"\xff\xd9"

_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_SCAN, _RESTARTS = 0xDA, 0xDD


class JpegHeader(NamedTuple):
    """The fields of a JPEG's header, and where some of them lie.

    Attributes:
        height: The image's height in pixels.
        width: Its width in pixels.
        components: The number of its colour components.
        unit: (height, width) in pixels of the blocks that are coded together (an MCU).
        simple: True for one Huffman-coded scan of grey or colour from top to bottom.
        restarts: Units in a restart interval; 0 where there are none.
        frame: Offset of the frame's payload in bytes.
        restarts_at: Offset of the restart interval's payload in bytes; 0 where there is none.
        scan: Offset at which the entropy-coded bytes begin.
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


def read_jpeg_header(content: bytes | bytearray | memoryview) -> JpegHeader:
    """Read the header of a JPEG.

    Args:
        content: The encoded bytes.

    Raises:
        Undecodable: It ends or contradicts itself before the first scan.
    """
    frame = restarts_at = interval = 0
    kind = 0
    offset, end = 2, len(content)
    while offset + 4 <= end:
        if content[offset] != 0xFF:
            break
        marker = content[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        length = (content[offset + 2] << 8) | content[offset + 3]
        if length < 2 or offset + 2 + length > end:
            break
        if marker in _FRAMES and not frame:
            kind, frame = marker, offset + 4
        elif marker == _RESTARTS and length >= 4:
            restarts_at = offset + 4
            interval = (content[restarts_at] << 8) | content[restarts_at + 1]
        elif marker == _SCAN:
            if not frame or length < 3:
                break
            return _header(content, kind, frame, interval, restarts_at, offset, length)
        offset += 2 + length
    raise Undecodable("a JPEG that ends before its pixels")


def _header(
    content: bytes | bytearray | memoryview,
    kind: int,
    frame: int,
    interval: int,
    restarts_at: int,
    offset: int,
    length: int,
) -> JpegHeader:
    end = frame - 2 + ((content[frame - 2] << 8) | content[frame - 1])
    components = content[frame + 5] if frame + 6 <= end else 0
    if components == 0 or frame + 6 + 3 * components > end:
        raise Undecodable("a JPEG without colour components")
    factors = [content[frame + 7 + 3 * component] for component in range(components)]
    across, down = max(factor >> 4 for factor in factors), max(factor & 15 for factor in factors)
    if not all(factor >> 4 and factor & 15 for factor in factors):
        raise Undecodable("a JPEG with a sampling factor of 0")
    if components == 1:
        across = down = 1  # the only component's blocks are coded one by one, whatever its factors say
    simple = kind in _SEQUENTIAL and content[frame] == 8 and components in (1, 3) and content[offset + 4] == components
    return JpegHeader(
        height=(content[frame + 1] << 8) | content[frame + 2],
        width=(content[frame + 3] << 8) | content[frame + 4],
        components=components,
        unit=(8 * down, 8 * across),
        simple=simple,
        restarts=interval,
        frame=frame,
        restarts_at=restarts_at,
        scan=offset + 2 + length,
    )
