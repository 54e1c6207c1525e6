"""Decoding the region of a JPEG that a crop needs, by libjpeg-turbo.

Entropy-coded data can be read only from their beginning, so rows below the crop are left out by telling the decoder
of a lower image. Where the file has restart markers, decoding can begin at each of them: then the intervals that cover
the crop are put together to a smaller JPEG (the coefficients stay as they are). Chroma is interpolated over the edges
of coding units, so one unit more is taken where the crop ends at one: the pixels are those of the whole image.
"""

from __future__ import annotations

import threading

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from expflow.data.decode.errors import TruncatedImage, Undecodable
from expflow.data.decode.jpeg_header import END_OF_IMAGE, JpegHeader

Pixels = NDArray[np.uint8]
"""(height, width, 3), red green blue, or (height, width, 1)."""

Region = tuple[int, int, int, int]
"""(top, left, height, width)."""

Range = tuple[int, int]
"""The first, and the one behind the last."""

Counts = NDArray[np.int64]

_MARKERS = np.arange(0xD0, 0xD8, dtype=np.uint8)
"""RST0 to RST7, which end restart intervals in turn."""

_LEFT_OVER = "extraneous bytes before marker"
_MISSING_ROWS = "premature end"
"""Parts of libjpeg's messages: bytes are left behind the last row that the header names; rows are missing."""


def decode_region(
    content: memoryview, header: JpegHeader, region: Region, *, channels: int, reduction: int = 1
) -> Pixels:
    """Decode a region of a JPEG.

    Args:
        content: The encoded bytes.
        header: What :func:`read_jpeg_header` returned of them.
        region: (top, left, height, width) in pixels; multiples of ``reduction``, or ending with the image.
        channels: 1 or 3, the channels of the pixels.
        reduction: How many times smaller (1, 2, 4, 8) the result is.

    Returns:
        The pixels, (height, width, channels): a view of memory that the next call on this thread reuses.

    Raises:
        Undecodable: The bytes are not the image that the header describes.
    """
    top, left, height, width = region
    data: bytearray | memoryview = content
    cut = False
    if header.simple:
        rows = _units(top, top + height, header.unit[0], header.height)
        columns = _units(left, left + width, header.unit[1], header.width)
        if header.restarts and (joined := _intervals(content, header, rows, columns)) is not None:
            data, header, rows_above, columns_before = joined
            top, left = top - rows_above, left - columns_before
        elif rows[1] * header.unit[0] < header.height:
            header, cut = header._replace(height=rows[1] * header.unit[0]), True
            data = _shorter(content, header)
    pixels = _decode(data, header, channels, reduction, cut=cut)
    top, left, bottom, right = (-(-edge // reduction) for edge in (top, left, top + height, left + width))
    return pixels[top:bottom, left:right]


def _units(first: int, stop: int, unit: int, size: int) -> tuple[int, int]:
    """The range of coding units that pixels ``first`` to ``stop`` depend on."""
    return max(first - 1, 0) // unit, min(-(-(stop + 1) // unit), -(-size // unit))


def _shorter(content: memoryview, header: JpegHeader) -> bytearray:
    """The same JPEG with the height of ``header`` in its frame."""
    data = bytearray(content)
    data[header.frame + 1 : header.frame + 3] = header.height.to_bytes(2, "big")
    return data


def _decode(data: bytearray | memoryview, header: JpegHeader, channels: int, reduction: int, *, cut: bool) -> Pixels:
    """All pixels of ``data``, whose header says ``header``, in this thread's buffer."""
    height, width = -(-header.height // reduction), -(-header.width // reduction)
    pixels = _buffer(height * width * channels)
    try:
        simplejpeg.decode_jpeg(
            data,
            "GRAY" if channels == 1 else "RGB",
            min_height=height if reduction > 1 else 0,
            min_width=width if reduction > 1 else 0,
            min_factor=reduction,
            buffer=pixels,
        )
    except ValueError as error:
        # The decoder has written all rows when it finds more: the first complaint is the one that is raised.
        if not (cut and _LEFT_OVER in str(error)):
            kind = TruncatedImage if _MISSING_ROWS in str(error).lower() else Undecodable
            raise kind(str(error)) from error
    return pixels.reshape(height, width, channels)


def _intervals(
    content: memoryview, header: JpegHeader, rows: Range, columns: Range
) -> tuple[bytearray, JpegHeader, int, int] | None:
    """The restart intervals that cover the coding units of ``rows`` and ``columns``, as a JPEG of their own.

    Returns it with its header, and the place of its first pixel in the image. None where the intervals do not line up
    with the rows of units, or there are not as many as the header says.
    """
    per_row = -(-header.width // header.unit[1])
    if header.restarts <= per_row:
        if per_row % header.restarts:
            return None
        across, down, step = per_row // header.restarts, 1, header.restarts
    elif header.restarts % per_row == 0:
        across, down, step = 1, header.restarts // per_row, per_row
    else:
        return None
    bounds = _restarts(content, header.scan)
    units_high = -(-header.height // header.unit[0])
    if len(bounds) - 1 != across * -(-units_high // down):
        return None
    first, stop = rows[0] // down, -(-rows[1] // down)
    start, end = columns[0] // step, -(-columns[1] // step)
    inner = header._replace(
        height=min(stop * down * header.unit[0], header.height) - first * down * header.unit[0],
        width=min(end * step * header.unit[1], header.width) - start * step * header.unit[1],
    )
    numbers = np.arange(first, stop)[:, None] * across + np.arange(start, end)
    data = _joined(content, inner, bounds, numbers if end - start < across else numbers.reshape(1, -1))
    return data, inner, first * down * header.unit[0], start * step * header.unit[1]


def _restarts(content: memoryview, scan: int) -> NDArray[np.int64]:
    """Where the intervals begin, and behind them where one more would: two bytes past the marker that ends each."""
    coded = np.frombuffer(content, np.uint8, offset=scan)
    marks = np.flatnonzero(coded[:-1] == 0xFF)
    codes = coded[marks + 1]
    restarts = marks[(codes & 0xF8) == 0xD0]
    last = marks[codes == END_OF_IMAGE[1]]
    return np.concatenate(([0], restarts + 2, last[-1:] + 2)) + scan


def _joined(content: memoryview, header: JpegHeader, bounds: Counts, numbers: Counts) -> bytearray:
    """Intervals behind the file's header, with the size of ``header`` and markers that count from 0.

    ``numbers`` has a row of intervals that follow each other in the file for each piece that is taken.
    """
    data = bytearray(content[: header.scan])
    data[header.frame + 1 : header.frame + 5] = header.height.to_bytes(2, "big") + header.width.to_bytes(2, "big")
    begins, ends = bounds[numbers], bounds[numbers + 1]
    for begin, end in zip(begins[:, 0].tolist(), ends[:, -1].tolist(), strict=True):
        data += content[begin:end]
    marks = header.scan - 1 + np.cumsum(ends - begins)
    view = np.frombuffer(data, np.uint8)
    view[marks] = _MARKERS[np.arange(len(marks)) % 8]
    view[-1] = END_OF_IMAGE[1]
    return data


_local = threading.local()


def _buffer(size: int) -> NDArray[np.uint8]:
    """Memory of this thread for ``size`` bytes. It grows with the largest image, and is kept."""
    pixels: NDArray[np.uint8] | None = getattr(_local, "pixels", None)
    if pixels is None or len(pixels) < size:
        pixels = _local.pixels = np.empty(size, np.uint8)
    return pixels[:size]
