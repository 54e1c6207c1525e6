"""Objects' outlines in COCO's forms, polygons and run lengths, painted into one map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from expflow.data.decode.errors import Undecodable, check_size


def painted_objects(outlines: Sequence[Any], size: tuple[int, int], stored: tuple[int, int]) -> NDArray[np.int32]:
    """Return which object each pixel is of, (height, width), from 1; smaller ones lie over larger ones.

    Args:
        outlines: of each object, polygons [[x, y, x, y, …], …] or run lengths {counts, size}; None for none.
        size: (height, width) of the image that they are of.
        stored: (height, width) of the result.

    Raises:
        ValueError: one is of neither form.
    """
    masks = [object_mask(outline, size, stored) for outline in outlines]
    painted = np.zeros(stored, np.int32)
    for number in sorted(range(len(masks)), key=lambda n: (-int(masks[n].sum()), n)):
        painted[masks[number]] = number + 1
    return painted


def object_mask(outline: Any, size: tuple[int, int], stored: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of one object, (height, width).

    Args:
        outline: as in :func:`painted_objects`.
        size: (height, width) of the image that it is of.
        stored: (height, width) of the result.

    Raises:
        ValueError: it is of neither form.
    """
    check_size(*size)
    if outline is None:
        return np.zeros(stored, bool)
    if isinstance(outline, Mapping):
        whole = np.asarray(Image.fromarray(_of_runs(outline, size)).resize(stored[::-1], Image.Resampling.NEAREST))
        return whole > 0
    scale = (stored[1] / size[1], stored[0] / size[0])
    canvas = Image.new("L", stored[::-1])
    for polygon in outline:
        points = np.asarray(polygon, np.float64).reshape(-1, 2) * scale - 0.5  # corners, and Pillow counts middles
        if len(points) >= 3:
            ImageDraw.Draw(canvas).polygon([tuple(point) for point in points.tolist()], fill=1)
    return np.asarray(canvas) > 0


def check_outline(outline: Any, size: tuple[int, int], annotation: Any) -> None:
    """Refuse an outline that is of neither form, or lies out of its image.

    Args:
        outline: as in :func:`painted_objects`.
        size: (height, width) of the image that it is of.
        annotation: the id of the object's, for messages.

    Raises:
        Undecodable: it is wrong; one pixel beyond an edge is taken for a rounding, and is not.
    """
    where = f"annotation {annotation}: segmentation"
    if outline is None or isinstance(outline, Mapping):
        return  # run lengths are checked where they are painted
    height, width = size
    for polygon in outline if isinstance(outline, list) else [outline]:
        numbers = np.asarray(polygon if isinstance(polygon, list) else [polygon], None if polygon else np.float64)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or len(numbers) % 2:
            raise Undecodable(f"{where}: a polygon of {polygon!r:.80}; expected [x, y, x, y, …], or run lengths")
        points = numbers.reshape(-1, 2)
        inside = ((points >= -1) & (points <= [width + 1, height + 1])).all(1)
        if not inside.all():
            x, y = points[~inside][0]
            raise Undecodable(f"{where}: ({x:g}, {y:g}) lies out of the image of {width} x {height} pixels")


def _of_runs(outline: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(height, width) of 0 and 1 from run lengths, column by column, those of 0 first."""
    counts = outline["counts"]
    runs = np.asarray(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    if tuple(outline["size"]) != size or runs.sum() != size[0] * size[1] or (runs < 0).any():
        raise ValueError(f"run lengths of {outline['size']} pixels for an image of {list(size)}")
    return np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(size[1], size[0]).T


def _unpacked(text: str) -> list[int]:
    """Run lengths out of COCO's text: five bits a character, differences to the last but one from the third on."""
    runs, position = list[int](), 0
    while position < len(text):
        value, bits, more = 0, 0, True
        while more:
            code = ord(text[position]) - 48
            value |= (code & 0x1F) << bits
            more, bits, position = bool(code & 0x20), bits + 5, position + 1
            if not more and code & 0x10:
                value |= -1 << bits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
