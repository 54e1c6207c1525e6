"""What is raised about the bytes of one sample."""

from __future__ import annotations

MOST_PIXELS = 2**27
"""Pixels of the largest image that is decoded: 134 million, 400 MB. A few bytes can claim far more."""


class Undecodable(ValueError):
    """The bytes of a sample are no image, or only part of one; the message says what was found."""


class TruncatedImage(Undecodable):
    """Pixels are missing; other decoders would fill them with grey."""


def check_size(height: int, width: int) -> None:
    """Refuse an image that is empty or too large.

    Args:
        height: Its height in pixels.
        width: Its width in pixels.

    Raises:
        Undecodable: It has no pixels, or more than MOST_PIXELS.
    """
    if height < 1 or width < 1:
        raise Undecodable(f"an image of {width} x {height} pixels")
    if height * width > MOST_PIXELS:
        raise Undecodable(f"claims {width} x {height} pixels; at most {MOST_PIXELS} are decoded")
