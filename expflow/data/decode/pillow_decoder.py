"""Decoding whole images with Pillow: the reference that every faster decoder must agree with."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.decode.errors import Undecodable, check_size

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What the bytes of a sample may hold: Pillow would hand an EPS to Ghostscript, which runs programs."""


def decode_with_pillow(content: memoryview | bytes, channels: int | None = None) -> NDArray[np.uint8]:
    """Decode a whole image. It is not turned: what EXIF says about directions is applied when shards are written.

    Args:
        content: The encoded bytes.
        channels: 3, 1, or None for what the file has.

    Returns:
        The pixels, (height, width, channels) uint8.

    Raises:
        Undecodable: The bytes are no image of :data:`FORMATS`, or a damaged one.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            check_size(image.height, image.width)
            pixels = np.asarray(_converted(image, channels), dtype=np.uint8)
    except Undecodable:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise Undecodable(_reason(error)) from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def sixteen_to_eight_bits(image: Image.Image, file_format: str | None) -> Image.Image:
    """Return an image of 16-bit grey with eight bits, by the upper half of each number; any other image as it is.

    Pillow alone would clip it to white. It reads PGM of more than eight bits as 32-bit numbers, scaled to 16 bits.

    Args:
        image: The image.
        file_format: The format of its file, which copies of an image do not know.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PPM"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def _converted(image: Image.Image, channels: int | None) -> Image.Image:
    """``image`` with eight bits a channel, its transparency dropped."""
    image = sixteen_to_eight_bits(image, image.format)
    if image.mode in ("I", "F"):
        raise Undecodable(f"its pixels are 32-bit numbers (mode {image.mode})")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns where the next step drops a palette's transparency
    if channels is None:
        channels = 1 if image.mode in ("1", "L", "LA") else 3
    return image.convert("L" if channels == 1 else "RGB")


def _reason(error: Exception) -> str:
    """The error's text about the bytes, without the address of an object in memory."""
    text = str(error)
    return "no image that is read here" if "cannot identify" in text else text or type(error).__name__
