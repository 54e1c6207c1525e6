"""An image whose size is known and whose pixels are decoded when a region of it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expflow.data.decode.errors import TruncatedImage, Undecodable, check_size
from expflow.data.decode.jpeg_decoder import Region, decode_region
from expflow.data.decode.jpeg_header import END_OF_IMAGE, START_OF_IMAGE, JpegHeader, read_jpeg_header
from expflow.data.decode.pillow_decoder import decode_with_pillow


@dataclass(frozen=True)
class LazyImage:
    """An image that was opened. It has either a header, or the pixels that Pillow decoded.

    Attributes:
        size: (height, width) in pixels.
        content: The encoded bytes.
        channels: 1 or 3, the channels of the pixels.
        header: The header of a JPEG whose regions can be decoded alone.
        pixels: All pixels, (height, width, channels).
    """

    size: tuple[int, int]
    content: memoryview
    channels: int
    header: JpegHeader | None = None
    pixels: NDArray[np.uint8] | None = None

    def region(self, region: Region, reduction: int = 1) -> NDArray[np.uint8]:
        """Decode a region of the image.

        Args:
            region: (top, left, height, width) in pixels; multiples of ``reduction``, or ending with the image.
            reduction: How many times smaller (1, 2, 4, 8) the result may be; it may also have the full size.

        Returns:
            The pixels, (height, width, channels), perhaps a view of memory that the next image on this thread takes.

        Raises:
            Undecodable: The bytes are not the image that they claim to be.
        """
        pixels = self.pixels
        if self.header is not None:
            try:
                return decode_region(self.content, self.header, region, channels=self.channels, reduction=reduction)
            except TruncatedImage:
                raise
            except Undecodable:  # the strict decoder has a complaint; Pillow decides whether it matters
                pixels = decode_with_pillow(self.content, self.channels)
        if pixels is None or pixels.shape[:2] != self.size:
            raise Undecodable("an image whose size is not what its header says")
        top, left, height, width = region
        return pixels[top : top + height, left : left + width]


def open_image(content: memoryview, channels: int) -> LazyImage:
    """Open an encoded image. Grey and colour JPEGs that are whole are decoded later; others at once, by Pillow.

    Args:
        content: The encoded bytes.
        channels: 1 or 3, the channels that its pixels shall have.

    Raises:
        Undecodable: The bytes are no image that is read here.
    """
    if content[:3] == START_OF_IMAGE and content[-2:] == END_OF_IMAGE:
        try:
            header = read_jpeg_header(content)
        except Undecodable:
            header = None
        if header is not None and header.components in (1, 3) and header.height:
            check_size(header.height, header.width)
            return LazyImage((header.height, header.width), content, channels, header=header)
    pixels = decode_with_pillow(content, channels)
    return LazyImage((pixels.shape[0], pixels.shape[1]), content, channels, pixels=pixels)
