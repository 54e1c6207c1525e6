"""Keypoints: where the points of each object are, (k, p, 3) x, y and visibility, from the member of the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from expflow.data.augment.geometry import SampleGeometry
from expflow.data.dataspec import FieldSpec
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds.base import SampleDrawing
from expflow.data.kinds.boxes import FieldOfBoxes, ObjectBoxes, decode_boxes, objects_of
from expflow.data.kinds.mask import palette
from expflow.data.kinds.point_rows import HIDDEN, moved_points


class KeypointsKind(FieldOfBoxes):
    """The points of each object: x, y in pixels and visibility, zeros where a point is not known or there is no box."""

    codecs: ClassVar = {}

    def of_member(self, value: ObjectBoxes, field: FieldSpec) -> NDArray[Any]:
        """Return the points, as many rows as the fullest sample has. Raises ValueError."""
        points = np.zeros((0, *field.shape[1:])) if value.points is None else value.points
        if points.shape[1:] != field.shape[1:]:
            raise ValueError(f"{points.shape[1]} points of an object, and the manifest says {field.shape[1]}")
        return self.filled(points, field.shape, field.dtype)

    def taken(self, pixels: NDArray[Any], geometry: SampleGeometry) -> NDArray[Any]:
        """Return the points of the boxes that are left, where they lie now."""
        moved = moved_points(pixels[objects_of(geometry).rows], geometry)
        return self.filled(moved, pixels.shape, pixels.dtype)

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Draw each point in a colour of its own, hollow where it is hidden, and lines between joined ones."""
        value = decode_boxes(content)
        if drawing.picture is not None and drawing.points is not None and value.points is not None:
            pen, radius = ImageDraw.Draw(drawing.picture), max(drawing.picture.size) // 128
            colours = point_colours(len(drawing.points.names), len(classes))
            draw_points(pen, value.points, drawing.points, colours, radius)


def point_colours(count: int, classes: int) -> list[tuple[int, ...]]:
    """Return a colour for each point, none of them that of a class's boxes.

    Args:
        count: how many points there are.
        classes: how many classes there are.
    """
    return [*map(tuple, palette(1 + classes + count)[1 + classes :].tolist())]


def draw_points(
    pen: ImageDraw.ImageDraw,
    points: NDArray[np.floating[Any]],
    layout: KeypointLayout,
    colours: Sequence[tuple[int, ...]],
    radius: int,
) -> None:
    """Draw points and the lines between them; those that are not known are left out.

    Args:
        pen: draws on the picture.
        points: (m, p, 3) x, y in its pixels and visibility.
        layout: which points they are.
        colours: of each of them.
        radius: of a point, in pixels; 0 for a single one, without lines, which would hide so small a picture.
    """
    for known in points:
        for first, second in layout.skeleton if radius else ():
            if known[first, 2] and known[second, 2]:
                pen.line([*known[first, :2].tolist(), *known[second, :2].tolist()], fill=colours[first], width=1)
        for (x, y, visibility), colour in zip(known.tolist(), colours, strict=True):
            if not visibility:
                continue
            left, top = int(x) - radius, int(y) - radius  # (x, y) lies in the pixel whose corner is (int x, int y)
            frame = [left, top, left + 2 * radius, top + 2 * radius]
            if radius == 0:
                pen.point([left, top], fill=colour)
            elif visibility == HIDDEN:
                pen.ellipse(frame, outline=colour)
            else:
                pen.ellipse(frame, fill=colour, outline=(20, 20, 20))
