"""What all readers of image files agree about: which formats, how many bits, and what an error is called."""

from __future__ import annotations

import numpy as np
from PIL import Image

from expflow.data.sources.base import BadSample

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""What a file may hold, whatever its name says: Pillow would hand an EPS to Ghostscript, which runs programs."""


def eight_bits(image: Image.Image) -> Image.Image:
    """``image`` with eight bits a channel and its transparency dropped, as other loaders of image folders do.

    Pillow alone would clip 16-bit grey to white, and warn about transparent palettes.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadSample(f"its pixels are 32-bit numbers (mode {image.mode}); save it with 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image


def reason(error: Exception) -> str:
    """What ``error`` says about an image, without the address of an object in memory."""
    said = str(error)
    return (
        "it is no image that is read here"
        if "cannot identify" in said and "BytesIO" in said
        else said or type(error).__name__
    )
