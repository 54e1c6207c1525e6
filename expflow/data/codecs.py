"""How a field's value becomes bytes in a shard, and comes back. The list is closed: nothing else is ever decoded."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.decode.plain import decode_plain

QUALITY = 95
"""JPEG quality of pixels that become a JPEG here; files that are JPEGs already are never encoded again."""


def _encode(image: NDArray[np.uint8] | bytes, form: str) -> bytes:
    if isinstance(image, bytes):
        return image
    buffer = io.BytesIO()
    quality = {"quality": QUALITY} if form != "PNG" else {}
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, form, **quality)
    return buffer.getvalue()


def _decode_image(content: bytes | memoryview) -> NDArray[np.uint8]:
    """(channels, height, width), with as many channels as the file has."""
    return np.ascontiguousarray(decode_plain(content).transpose(2, 0, 1))


def _encode_class(label: int) -> bytes:
    return str(int(label)).encode("ascii")


def _decode_class(content: bytes | memoryview) -> NDArray[np.int64]:
    return np.asarray(int(bytes(content)), dtype=np.int64)


@dataclass(frozen=True)
class Codec:
    """Both directions of one extension. Decoding raises ValueError or OSError on bytes that are not its kind."""

    encode: Callable[..., bytes]
    decode: Callable[[bytes | memoryview], NDArray[np.generic]]


def _image_codec(form: str) -> Codec:
    return Codec(lambda value: _encode(value, form), _decode_image)


IMAGES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
"""Extensions of images, and what pixels become there. A file's bytes may be of another of these formats."""

CODECS = {
    **{extension: _image_codec(form) for extension, form in IMAGES.items()},
    "cls": Codec(_encode_class, _decode_class),
}


def encode(extension: str, value: object) -> bytes:
    """``value`` as the bytes of a member: a class number as cls, an image as (height, width, channels) uint8.

    Bytes of an image file stay as they are.
    """
    return CODECS[extension].encode(value)


def decode(extension: str, content: bytes | memoryview) -> NDArray[np.generic]:
    """The value of a member: an image as (channels, height, width) uint8, a class number as int64."""
    return CODECS[extension].decode(content)
