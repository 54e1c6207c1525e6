"""Images: compressed files, decoded to (channels, height, width) uint8."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.dataspec import FieldSpec
from expflow.data.decode.pillow_decoder import FORMATS, decode_with_pillow
from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.shards.statistics import SampleCounts, pixel_histogram
from expflow.data.sources.base import StoredImage

JPEG_QUALITY = 95
"""JPEG quality of pixels that become a JPEG here; files that are JPEGs already are never encoded again."""

IMAGES = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
"""Extensions of images, and the format in which pixels are stored there. A file's bytes may be of another of these."""


def _encode(image: NDArray[np.uint8] | bytes | StoredImage, image_format: str) -> bytes:
    if isinstance(image, StoredImage):
        return image.content
    if isinstance(image, bytes):
        return image
    buffer = io.BytesIO()
    quality = {"quality": JPEG_QUALITY} if image_format != "PNG" else {}
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, image_format, **quality)
    return buffer.getvalue()


def _decode(content: bytes | memoryview) -> NDArray[np.uint8]:
    """(channels, height, width), with as many channels as the file has."""
    return np.ascontiguousarray(decode_with_pillow(content).transpose(2, 0, 1))


def _codec(image_format: str) -> Codec:
    return Codec(lambda value: _encode(value, image_format), _decode)


class ImageKind(FieldKind):
    """What the network sees. Which part of it is taken decides for all other fields of the sample."""

    codecs: ClassVar = {extension: _codec(image_format) for extension, image_format in IMAGES.items()}
    spatial = True

    def stored_bytes(self, field: FieldSpec) -> int:
        """Return the bytes of the pixels; 0 where images differ in size."""
        channels, height, width = field.shape
        return channels * height * width

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count size, kind of file, and in train how often each value occurs."""
        if not isinstance(value, StoredImage):
            mode = "L" if value.shape[2] == 1 else "RGB"
            histogram = pixel_histogram(np.asarray(value))
            value = StoredImage(b"", histogram, value.shape[1], value.shape[0], f"pixels {mode}")
        counts.image(split, value.histogram, value.width, value.height, value.kind, anew=value.anew)

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Draw it in its stored size."""
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            drawing.picture = opened.convert("RGB")
