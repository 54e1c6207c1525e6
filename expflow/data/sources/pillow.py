"""What all readers of image files have in common: formats, bits per channel, and the text of errors."""

from __future__ import annotations

from PIL import Image

from expflow.data.decode.pillow_decoder import sixteen_to_eight_bits
from expflow.data.sources.base import BadSample

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""What a file may hold, whatever its name says: Pillow would hand an EPS to Ghostscript, which runs programs."""


def to_eight_bits(image: Image.Image, file_format: str | None) -> Image.Image:
    """Convert an image to eight bits a channel without transparency, as other loaders of image folders do.

    Pillow alone would clip 16-bit grey to white, and warn about transparent palettes.

    Args:
        image: an image of any mode.
        file_format: the format of its file, which copies of an image do not know.

    Raises:
        BadSample: its pixels are 32-bit numbers.
    """
    image = sixteen_to_eight_bits(image, file_format)
    if image.mode in ("I", "F"):
        raise BadSample(f"its pixels are 32-bit numbers (mode {image.mode}); save it with 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image


def error_reason(error: Exception) -> str:
    """Return the text of an image's error, without the address of an object in memory.

    Args:
        error: what Pillow or a decoder raised.
    """
    text = str(error)
    if "cannot identify" in text and "BytesIO" in text:
        return "it is no image that is read here"
    return text or type(error).__name__
