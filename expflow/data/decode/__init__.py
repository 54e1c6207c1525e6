"""From the bytes of an image to its pixels, or to those of a part of it. Importing this package imports no torch."""

from expflow.data.decode.errors import MOST_PIXELS, Undecodable

__all__ = ["MOST_PIXELS", "Undecodable"]
