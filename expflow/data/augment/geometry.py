"""Which part of an image becomes a sample: random or central boxes, worked out before anything is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.augment import sample_random
from expflow.data.augment.sizes import ImageSizes, Size, after_resize, inside_square
from expflow.data.augment.specs import RandomResizedCrop

ATTEMPTS = 10
"""Boxes that are drawn before the middle is taken, as in torchvision."""

MIN_OVERSIZE = 1.5
"""How many times larger than its result an image that was decoded at a smaller scale is at least."""


@dataclass(frozen=True)
class Box:
    """A part of an image.

    Attributes:
        top: Its first row in pixels.
        left: Its first column in pixels.
        height: Its height in pixels.
        width: Its width in pixels.
    """

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class CropView:
    """What is taken of an image: a box, which is resized; and of the result a part.

    Attributes:
        box: The box in the stored image.
        resized: (height, width) to which the box is resized.
        at: (top, left) of the part in the resized box; below 0 where the part begins outside of it, and is padded.
        out: (height, width) of the part.
    """

    box: Box
    resized: Size
    at: tuple[int, int]
    out: Size


@dataclass(frozen=True)
class VisibleObjects:
    """The boxes of a sample that are left in what was taken of its image.

    Attributes:
        rows: (m,) their rows among the sample's boxes.
        boxes: (m, 4) where they lie in the result: left, top, right, bottom in its pixels.
    """

    rows: NDArray[np.int64]
    boxes: NDArray[np.float32]


@dataclass(frozen=True)
class SampleGeometry:
    """All that moves the pixels of a sample, one for all of its fields: a view, then padding and a crop, then a mirror.

    Attributes:
        view: What is taken of the stored image.
        pad: Pixels that are added to every side of that, before a part of the old size is taken.
        pad_at: (top, left) of that part in the padded image.
        mirrored: Whether left and right are exchanged at last.
        objects: Which of the sample's boxes are left, and where; None before that was worked out.
        point_order: Of each of an object's points the one that it is in a mirrored image; () where objects have none.
    """

    view: CropView
    pad: int = 0
    pad_at: tuple[int, int] = (0, 0)
    mirrored: bool = False
    objects: VisibleObjects | None = None
    point_order: tuple[int, ...] = ()

    @property
    def shift(self) -> NDArray[np.int64]:
        """By how much padding and the crop behind it move what was taken: (x, y) in pixels."""
        return np.asarray([self.pad - self.pad_at[1], self.pad - self.pad_at[0]] if self.pad else [0, 0])


def in_view(places: NDArray[np.floating[Any]], view: CropView) -> NDArray[np.float64]:
    """Where places of the stored image lie in what is taken of it, (…, 2) -> (…, 2).

    Args:
        places: (x, y) of each, in pixels of the stored image.
        view: What is taken.
    """
    scale = np.asarray([view.resized[1] / view.box.width, view.resized[0] / view.box.height])
    placed = (places - np.asarray([view.box.left, view.box.top])) * scale - np.asarray([view.at[1], view.at[0]])
    return np.asarray(placed, np.float64)


def evaluation_view(size: Size, sizes: ImageSizes) -> CropView:
    """What eval takes of an image: all of it, its shorter side resized, and of that the middle; where images are
    letterboxed, its longer side resized, and padding around it.

    Args:
        size: (height, width) of the image.
        sizes: The sizes of eval's operations.
    """
    if sizes.letterbox:
        resized = inside_square(size, sizes.eval[0])
        top, left = ((inner - outer) // 2 for inner, outer in zip(resized, sizes.eval, strict=True))
        return CropView(Box(0, 0, *size), resized, (top, left), sizes.eval)
    resized = after_resize(size, sizes.resize)
    out = (sizes.crop, sizes.crop) if sizes.crop is not None else resized
    at = (round((resized[0] - out[0]) / 2), round((resized[1] - out[1]) / 2))
    return CropView(Box(0, 0, *size), resized, at, out)


def random_crop_view(size: Size, out: Size, spec: RandomResizedCrop, key: int) -> CropView:
    """A box of random area and shape; where none fits, the largest of an allowed shape in the middle.

    The box is drawn as in torchvision's ``RandomResizedCrop``. One of at least three times the size of its result lies
    on even pixels (of six times on multiples of four, of twelve on those of eight), where a JPEG can be decoded at that
    scale.

    Args:
        size: (height, width) of the image.
        out: (height, width) to which the box is resized.
        spec: The ranges of its area and shape.
        key: The sample's key.
    """
    height, width = size
    low, high = math.log(spec.ratio[0]), math.log(spec.ratio[1])
    for attempt in range(0, 4 * ATTEMPTS, 4):
        area = height * width * sample_random.uniform_between(key, sample_random.CROP + attempt, *spec.scale)
        ratio = math.exp(sample_random.uniform_between(key, sample_random.CROP + attempt + 1, low, high))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            top = sample_random.integer(key, sample_random.CROP + attempt + 2, height - tall + 1)
            left = sample_random.integer(key, sample_random.CROP + attempt + 3, width - wide + 1)
            return CropView(_on_grid(Box(top, left, tall, wide), out), out, (0, 0), out)
    wide, tall = width, height
    if width < height * spec.ratio[0]:
        tall = max(round(width / spec.ratio[0]), 1)
    elif width > height * spec.ratio[1]:
        wide = max(round(height * spec.ratio[1]), 1)
    return CropView(_on_grid(Box((height - tall) // 2, (width - wide) // 2, tall, wide), out), out, (0, 0), out)


def decode_reduction(box: Size, resized: Size) -> int:
    """How many times smaller (1, 2, 4 or 8) a box may be decoded and still be MIN_OVERSIZE times its result.

    Images that large are resized from so many pixels that a decoder's coarser averages do not show: see the tests.

    Args:
        box: (height, width) of the box.
        resized: (height, width) to which it is resized.
    """
    limit = max(min(box[0] / resized[0], box[1] / resized[1]) / MIN_OVERSIZE, 1)
    return next(reduction for reduction in (8, 4, 2, 1) if reduction <= limit)


def _on_grid(box: Box, out: Size) -> Box:
    step = decode_reduction((box.height, box.width), out)
    if step == 1:
        return box
    return Box(*(edge // step * step for edge in (box.top, box.left, box.height, box.width)))
