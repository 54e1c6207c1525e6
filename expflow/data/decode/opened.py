"""An image that was looked at, not yet decoded: its size is known, and parts of it can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expflow.data.decode.errors import Incomplete, Undecodable, check_size
from expflow.data.decode.header import END, START, Header, read_header
from expflow.data.decode.jpeg import Part, decode_part
from expflow.data.decode.plain import decode_plain


@dataclass(frozen=True)
class Opened:
    """``size`` is (height, width). Of ``header`` and ``pixels`` there is one: pixels where the plain way was taken."""

    size: tuple[int, int]
    content: memoryview
    channels: int
    header: Header | None = None
    pixels: NDArray[np.uint8] | None = None

    def part(self, part: Part, reduction: int = 1) -> NDArray[np.uint8]:
        """``part`` of the image as (height, width, channels), up to ``reduction`` (1, 2, 4, 8) times smaller.

        ``part`` lies on multiples of ``reduction``, or ends with the image. The array may be a view of memory that the
        next image on this thread takes. Raises Undecodable.
        """
        pixels = self.pixels
        if self.header is not None:
            try:
                return decode_part(self.content, self.header, part, channels=self.channels, reduction=reduction)
            except Incomplete:
                raise
            except Undecodable:  # the strict decoder has a complaint; the plain way decides whether it matters
                pixels = decode_plain(self.content, self.channels)
        if pixels is None or pixels.shape[:2] != self.size:
            raise Undecodable("an image whose size is not what its header says")
        top, left, height, width = part
        return pixels[top : top + height, left : left + width]


def open_image(content: memoryview, channels: int) -> Opened:
    """The image in ``content``, to be decoded with 1 or 3 ``channels``. Raises Undecodable.

    Grey and colour JPEGs that are whole go the fast way. Everything else is decoded here and now, the plain way.
    """
    if content[:3] == START and content[-2:] == END:
        try:
            header = read_header(content)
        except Undecodable:
            header = None
        if header is not None and header.components in (1, 3) and header.height:
            check_size(header.height, header.width)
            return Opened((header.height, header.width), content, channels, header=header)
    pixels = decode_plain(content, channels)
    return Opened((pixels.shape[0], pixels.shape[1]), content, channels, pixels=pixels)
