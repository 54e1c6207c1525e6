"""Masks: the class of each pixel of an image, (height, width) uint8; 255 is void, which belongs to no class."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.augment.geometry import SampleGeometry
from expflow.data.dataspec import VOID, FieldSpec
from expflow.data.decode.errors import Undecodable, check_size
from expflow.data.decode.plain_png import decode_plain_png, encode_plain_png
from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.shards.statistics import SampleCounts

MOST_CLASSES = VOID
"""Classes that eight bits hold beside void."""

OPACITY = 0.55
"""How much a class's colour covers of the image where masks are drawn."""


def decode_mask(content: bytes | memoryview) -> NDArray[np.uint8]:
    """Return the class of each pixel, (height, width) uint8, perhaps read-only.

    Args:
        content: the bytes of a PNG whose numbers are the classes, as greys or as places in a palette.

    Raises:
        Undecodable: it is another file, or has colours, transparency or more bits than eight.
    """
    if (plain := decode_plain_png(content)) is not None:
        return plain
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.format != "PNG":
                raise Undecodable(
                    f"it is a {image.format}, whose compression or colours change the classes' numbers; save it as PNG"
                )
            if image.mode not in ("L", "P"):
                raise Undecodable(
                    f"its mode is {image.mode}; a mask is a PNG of one channel of 8 bits (mode L, or P whose places in"
                    " the palette are the classes)"
                )
            check_size(image.height, image.width)
            mask: NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    except Undecodable:
        raise
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        text = str(error)
        raise Undecodable("no image" if "cannot identify" in text else text or type(error).__name__) from error
    return mask


def nearest_rows(size: int, resized: int) -> NDArray[np.int64]:
    """Return for each row of a resized mask the row that it is a copy of: the one below its middle.

    Images are resized about the middles of their pixels, too (Pillow, and torch with align_corners=False); torch's
    ``nearest`` would take the row at the pixel's upper edge, and move a mask by up to half a pixel of the result.

    Args:
        size: number of rows before.
        resized: number of rows after.
    """
    return (2 * np.arange(resized, dtype=np.int64) + 1) * size // (2 * resized)


def palette(classes: int) -> NDArray[np.uint8]:
    """Return a colour for each class, (classes, 3): black for the first, bright and far apart for the others.

    Args:
        classes: how many classes there are.
    """
    golden = 0.61803398875
    colours = [colorsys.hsv_to_rgb(number * golden % 1, 0.85, 1.0) for number in range(max(classes - 1, 0))]
    return (255 * np.asarray([(0.0, 0.0, 0.0), *colours])).astype(np.uint8)[:classes]


def painted(picture_hwc: NDArray[np.uint8], mask_hw: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """Return a picture with the classes of a mask painted over it; class 0 stays as it is, and void becomes white.

    Args:
        picture_hwc: (height, width, 3).
        mask_hw: (height, width), numbers of classes and void.
        classes: how many classes there are.
    """
    colours = np.full((VOID + 1, 3), 255, np.uint8)
    colours[:classes] = palette(classes)
    mixed = (1 - OPACITY) * picture_hwc + OPACITY * colours[mask_hw]
    return np.where((mask_hw != 0)[..., None], mixed.round(), picture_hwc).astype(np.uint8)


def taken_of_map(pixels_hw: NDArray[Any], geometry: SampleGeometry, fill: int) -> NDArray[Any]:
    """Return the part of a map that was taken of its image, by the nearest pixel.

    Args:
        pixels_hw: the whole map.
        geometry: what is taken of the sample's image.
        fill: the value of what padding adds.
    """
    view = geometry.view
    rows = view.box.top + nearest_rows(view.box.height, view.resized[0])
    columns = view.box.left + nearest_rows(view.box.width, view.resized[1])
    rows, columns = (
        axis[max(first, 0) : first + length]
        for axis, first, length in zip((rows, columns), view.at, view.out, strict=True)
    )
    part = pixels_hw[rows][:, columns]  # several times as fast as with both at once
    if min(view.at) < 0:
        around = [(-first, length + first - n) for first, length, n in zip(view.at, view.out, part.shape, strict=True)]
        part = np.pad(part, around, constant_values=fill)
    if geometry.pad:
        top, left = geometry.pad_at
        part = np.pad(part, geometry.pad, constant_values=fill)[top : top + view.out[0], left : left + view.out[1]]
    return part[:, ::-1] if geometry.mirrored else part


class MaskKind(FieldKind):
    """The class of each pixel of the sample's image."""

    codecs: ClassVar = {"mask.png": Codec(encode_plain_png, decode_mask)}
    spatial = True
    map = True

    def taken(self, pixels: NDArray[Any], geometry: SampleGeometry) -> NDArray[Any]:
        """Return the same part as of the image, by the nearest pixel; what padding adds is void."""
        return taken_of_map(pixels, geometry, VOID)

    def stored_bytes(self, field: FieldSpec) -> int:
        """Return the bytes of the pixels; 0 where images differ in size."""
        return field.shape[0] * field.shape[1]

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count the pixels of each class, and of void."""
        counts.mask(split, np.bincount(np.asarray(value).reshape(-1), minlength=VOID + 1))

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Paint the classes over the image, and write the names of those that are in it."""
        mask_hw = decode_mask(content)
        if drawing.picture is not None:
            drawing.picture = Image.fromarray(painted(np.asarray(drawing.picture), mask_hw, len(classes)))
        present = [classes[number] for number in np.unique(mask_hw).tolist() if number < len(classes)]
        drawing.words.append(" ".join(present[1:] or present))
