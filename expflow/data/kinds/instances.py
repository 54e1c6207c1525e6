"""Instances: which object each pixel of an image is of, (height, width); 0 is none, i is box i - 1 of its sample."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.augment.geometry import SampleGeometry
from expflow.data.dataspec import FieldSpec
from expflow.data.decode.errors import Undecodable, check_size
from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.kinds.mask import painted, taken_of_map
from expflow.data.shards.statistics import SampleCounts


def _encode(instances_hw: NDArray[np.int32]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(instances_hw.astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def decode_instances(content: bytes | memoryview) -> NDArray[np.int32]:
    """Return the number of each pixel's object, (height, width) int32.

    Args:
        content: the bytes of a PNG of one channel of 16 bits, or of 8.

    Raises:
        Undecodable: it is another file.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.format != "PNG" or image.mode not in ("L", "I", "I;16"):
                raise Undecodable(
                    f"a {image.format} of mode {image.mode}; instances are a PNG of one channel of 16 bits"
                )
            check_size(image.height, image.width)
            return np.asarray(image).astype(np.int32)
    except Undecodable:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise Undecodable(str(error) or type(error).__name__) from error


class InstancesKind(FieldKind):
    """Which box of its sample each pixel is of."""

    codecs: ClassVar = {"instances.png": Codec(_encode, decode_instances)}
    spatial = True
    map = True

    def taken(self, pixels: NDArray[Any], geometry: SampleGeometry) -> NDArray[Any]:
        """Return the same part as of the image, by the nearest pixel; numbers are those of the boxes that are left."""
        taken = taken_of_map(pixels, geometry, 0)
        if geometry.objects is None:
            return taken
        rows = geometry.objects.rows
        renumbered = np.zeros(max(int(pixels.max()), int(rows.max(initial=0)) + 1) + 1, pixels.dtype)
        renumbered[rows + 1] = np.arange(1, len(rows) + 1)
        numbers: NDArray[Any] = renumbered[taken]
        return numbers

    def stored_bytes(self, field: FieldSpec) -> int:
        """Return the bytes of the pixels; 0 where images differ in size."""
        return 2 * field.shape[0] * field.shape[1]

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count nothing: the field of the boxes does."""

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Paint each object in a colour of its own."""
        instances = decode_instances(content)
        if drawing.picture is not None:
            shown = np.where(instances > 0, 1 + (instances - 1) % 200, 0).astype(np.uint8)
            drawing.picture = Image.fromarray(painted(np.asarray(drawing.picture), shown, 201))
