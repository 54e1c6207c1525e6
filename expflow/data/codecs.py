"""How a field's value becomes bytes in a shard, and comes back. The list is closed: nothing else is ever decoded."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def _encode_png(image_hwc: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    grey = image_hwc.shape[2] == 1
    Image.fromarray(image_hwc[:, :, 0] if grey else image_hwc).save(buffer, "PNG")
    return buffer.getvalue()


def _decode_png(content: bytes) -> NDArray[np.uint8]:
    """(channels, height, width)."""
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _encode_class(label: int) -> bytes:
    return str(int(label)).encode("ascii")


def _decode_class(content: bytes) -> NDArray[np.int64]:
    return np.asarray(int(content), dtype=np.int64)


@dataclass(frozen=True)
class Codec:
    """Both directions of one extension. Decoding raises ValueError or OSError on bytes that are not its kind."""

    encode: Callable[..., bytes]
    decode: Callable[[bytes], NDArray[np.generic]]


CODECS = {"png": Codec(_encode_png, _decode_png), "cls": Codec(_encode_class, _decode_class)}


def encode(extension: str, value: object) -> bytes:
    """``value`` as the bytes of a member: an image (height, width, channels) uint8 as png, a class number as cls."""
    return CODECS[extension].encode(value)


def decode(extension: str, content: bytes) -> NDArray[np.generic]:
    """The value of a member: an image as (channels, height, width) uint8, a class number as int64."""
    return CODECS[extension].decode(content)
