"""Which part of an image becomes a sample: boxes, drawn or central, worked out before anything is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from expflow.data.augment import draws
from expflow.data.augment.sizes import Size, Sizes, after_resize
from expflow.data.augment.specs import RandomResizedCrop

ATTEMPTS = 10
"""Draws of a box before the middle is taken, as in torchvision."""

REMAINING = 1.5
"""How many times larger than its result an image stays that a decoder made smaller."""


@dataclass(frozen=True)
class Box:
    """A part of an image in whole pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class View:
    """What is taken of an image: ``box`` of it, resized to ``resized``; of that the part of size ``out`` at ``at``.

    ``at`` is (top, left).
    """

    box: Box
    resized: Size
    at: tuple[int, int]
    out: Size

    def moved(self, down: int, right: int) -> View:
        """The view that lies so many pixels of its outcome further down and right, perhaps over the edge."""
        return replace(self, at=(self.at[0] + down, self.at[1] + right))

    def source(self) -> tuple[float, float, float, float]:
        """(top, left, height, width) of what is seen, in pixels of the stored image."""
        rows, columns = self.box.height / self.resized[0], self.box.width / self.resized[1]
        return (
            self.box.top + self.at[0] * rows,
            self.box.left + self.at[1] * columns,
            self.out[0] * rows,
            self.out[1] * columns,
        )


def whole_view(size: Size, sizes: Sizes) -> View:
    """The view of eval on an image of ``size``: its shorter side resized, the middle kept."""
    resized = after_resize(size, sizes.resize)
    out = (sizes.crop, sizes.crop) if sizes.crop is not None else resized
    at = (round((resized[0] - out[0]) / 2), round((resized[1] - out[1]) / 2))
    return View(Box(0, 0, *size), resized, at, out)


def random_view(size: Size, out: Size, spec: RandomResizedCrop, key: int) -> View:
    """A box of random area and shape, resized to ``out``; the largest of an allowed shape in the middle if none fits.

    The draws are torchvision's ``RandomResizedCrop``. A box of at least three times the size it is given lies on even
    pixels (of six times on multiples of four, of twelve on those of eight), where a JPEG can be decoded at that scale.
    """
    height, width = size
    low, high = math.log(spec.ratio[0]), math.log(spec.ratio[1])
    for attempt in range(0, 4 * ATTEMPTS, 4):
        area = height * width * draws.between(key, draws.CROP + attempt, *spec.scale)
        ratio = math.exp(draws.between(key, draws.CROP + attempt + 1, low, high))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            top = draws.whole(key, draws.CROP + attempt + 2, height - tall + 1)
            left = draws.whole(key, draws.CROP + attempt + 3, width - wide + 1)
            return View(_on_grid(Box(top, left, tall, wide), out), out, (0, 0), out)
    wide, tall = width, height
    if width < height * spec.ratio[0]:
        tall = max(round(width / spec.ratio[0]), 1)
    elif width > height * spec.ratio[1]:
        wide = max(round(height * spec.ratio[1]), 1)
    return View(_on_grid(Box((height - tall) // 2, (width - wide) // 2, tall, wide), out), out, (0, 0), out)


def reduction(box: Size, resized: Size) -> int:
    """How many times smaller (1, 2, 4 or 8) ``box`` may be decoded and still be REMAINING times ``resized``.

    Images that large are resized from so many pixels that a decoder's coarser averages do not show: see the tests.
    """
    room = min(box[0] / resized[0], box[1] / resized[1]) / REMAINING
    return next(each for each in (8, 4, 2, 1) if each <= max(room, 1))


def _on_grid(box: Box, out: Size) -> Box:
    step = reduction((box.height, box.width), out)
    if step == 1:
        return box
    return Box(*(each // step * step for each in (box.top, box.left, box.height, box.width)))
