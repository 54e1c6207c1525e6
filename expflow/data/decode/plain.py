"""The plain way to an image's pixels: Pillow, all of it. What every faster way must agree with."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.decode.errors import Undecodable, check_size

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What the bytes of a sample may hold: Pillow would hand an EPS to Ghostscript, which runs programs."""


def decode_plain(content: memoryview | bytes, channels: int | None = None) -> NDArray[np.uint8]:
    """The whole image as (height, width, channels) uint8; ``channels`` is 3, 1, or None for what the file has.

    Turned by nothing: what EXIF says about directions is left to who writes shards. Raises Undecodable.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            check_size(opened.height, opened.width)
            pixels = np.asarray(_converted(opened, channels), dtype=np.uint8)
    except Undecodable:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise Undecodable(_reason(error)) from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _converted(image: Image.Image, channels: int | None) -> Image.Image:
    """``image`` with eight bits a channel, its transparency dropped."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise Undecodable(f"its pixels are 32-bit numbers (mode {image.mode})")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns where the next step drops a palette's transparency
    if channels is None:
        channels = 1 if image.mode in ("1", "L", "LA") else 3
    return image.convert("L" if channels == 1 else "RGB")


def _reason(error: Exception) -> str:
    """What ``error`` says of the bytes, without the address of an object in memory."""
    said = str(error)
    return "no image that is read here" if "cannot identify" in said else said or type(error).__name__
