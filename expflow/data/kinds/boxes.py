"""Boxes around objects: their corners, what each one is, and how large, all from the member ``boxes.json``.

The member is ``{"scale": s, "boxes": [{"box": [left, top, right, bottom], "class": c, …}]}``: corners in pixels of the
stored image, the right and lower ones exclusive; ``crowd`` and ``difficult`` mark regions that neither loss nor metric
counts; ``area`` is the object's, in pixels of the original image, of which ``scale`` are one of the stored image's.
``points`` are the object's keypoints, ``[x, y, visibility, …]`` (:mod:`expflow.data.kinds.point_rows`).

Batches hold as many rows as the fullest sample has boxes: ``boxes`` (k, 4), ``box_label`` (k,), ``box_area`` (k,), and
for each sample ``box_scale`` ().
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from expflow.data.augment.geometry import SampleGeometry, VisibleObjects, in_view
from expflow.data.dataspec import BOXES_MEMBER, FieldSpec
from expflow.data.decode.errors import Undecodable
from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.kinds.mask import palette
from expflow.data.kinds.point_rows import check_points, is_number, point_row, points_of_rows
from expflow.data.shards.statistics import SampleCounts

NO_BOX = -1
"""The label of a row that holds no box."""

Labels = TypeVar("Labels", bound=Any)
"""An array of numpy's or a tensor of torch's; what follows computes with either."""

_KEYS = {"box", "class", "crowd", "difficult", "area", "points"}


def label_code(number: int, *, crowd: bool = False, difficult: bool = False) -> int:
    """Return the label of a box: its class, or a negative number for a region that counts for nothing.

    Args:
        number: its class.
        crowd: whether it is around a crowd, of which single objects are not marked.
        difficult: whether it is one object that need not be recognised.
    """
    return -2 - 2 * number - (not crowd) if crowd or difficult else number


def is_ignored(labels: Labels) -> Labels:
    """Return which labels are of regions that count for nothing.

    Args:
        labels: as in batches.
    """
    ignored: Labels = labels < NO_BOX
    return ignored


def is_crowd(labels: Labels) -> Labels:
    """Return which labels are of crowds.

    Args:
        labels: as in batches.
    """
    crowds: Labels = (labels < NO_BOX) & (labels % 2 == 0)
    return crowds


def classes_of(labels: Labels) -> Labels:
    """Return the classes of labels, those of ignored regions included; where there is no box, a number below 0.

    Args:
        labels: as in batches.
    """
    numbers: Labels = labels * (labels >= NO_BOX) + (-labels - 2) // 2 * (labels < NO_BOX)
    return numbers


@dataclass(frozen=True)
class ObjectBoxes:
    """The boxes of one image, as a source reads them.

    Attributes:
        boxes: (n, 4) left, top, right, bottom in pixels of the stored image.
        labels: (n,) as :func:`label_code` gives them.
        areas: (n,) of the objects, in pixels of the original image.
        scale: pixels of the original image that one of the stored image's is wide.
        points: (n, p, 3) x, y in pixels of the stored image and visibility of each object's points: 0 not known, 1
            hidden, 2 seen, as COCO has it; None where objects have none.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas: NDArray[np.float32]
    scale: float = 1.0
    points: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, boxes: Any, labels: Any, areas: Any = None, scale: float = 1.0, points: Any = None) -> ObjectBoxes:
        """Return boxes with the areas of the boxes where no others are known.

        Args:
            boxes: (n, 4), anything that numpy takes.
            labels: (n,), likewise.
            areas: (n,), likewise; nan and None stand for the box's own.
            scale: as the attribute.
            points: (n, p, 3), likewise; None for none.
        """
        corners = np.asarray(boxes, np.float32).reshape(-1, 4)
        own = box_areas(corners) * np.float32(scale) ** 2
        given = own if areas is None else np.asarray(areas, np.float32).reshape(-1)
        known = np.where(np.isnan(given), own, given)
        theirs = None if points is None else np.asarray(points, np.float32)
        return cls(corners, np.asarray(labels, np.int64).reshape(-1), known, scale, theirs)


def box_areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas of boxes, (n, 4) -> (n,).

    Args:
        boxes: left, top, right, bottom of each.
    """
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.float32)


def encode_boxes(value: ObjectBoxes) -> bytes:
    """Return the bytes of the member.

    Args:
        value: the boxes of one image.
    """
    rows = []
    own = box_areas(value.boxes) * np.float32(value.scale) ** 2
    points = [()] * len(own) if value.points is None else value.points
    columns = zip(value.boxes, value.labels.tolist(), value.areas, own, points, strict=True)
    for box, label, area, usual, known in columns:
        row: dict[str, Any] = {"box": [float(corner) for corner in box], "class": int(classes_of(label))}
        if is_ignored(label):
            row["crowd" if is_crowd(label) else "difficult"] = True
        if area != usual:
            row["area"] = float(area)
        if len(known):
            row["points"] = point_row(known)
        rows.append(row)
    scale = {"scale": value.scale} if value.scale != 1 else {}
    return json.dumps({**scale, "boxes": rows}, separators=(",", ":")).encode()


def decode_boxes(content: bytes | memoryview) -> ObjectBoxes:
    """Return the boxes of one image.

    Args:
        content: the bytes of the member.

    Raises:
        Undecodable: they are not of its form; the message says which box is wrong, and in what.
    """
    try:
        data = json.loads(bytes(content))
    except ValueError as error:
        raise Undecodable(f"no JSON: {error}") from error
    if not isinstance(data, Mapping) or not isinstance(data.get("boxes"), list) or data.keys() - {"scale", "boxes"}:
        raise Undecodable('expected {"boxes": [{"box": [left, top, right, bottom], "class": number}, …]}')
    scale = data.get("scale", 1.0)
    if not is_number(scale) or not 0 < scale < math.inf:
        raise Undecodable(f"scale: expected a number above 0, found {scale!r}")
    rows = [_checked_row(number, row) for number, row in enumerate(data["boxes"])]
    labels = [
        label_code(row["class"], crowd=bool(row.get("crowd")), difficult=bool(row.get("difficult"))) for row in rows
    ]
    areas, points = [row.get("area", math.nan) for row in rows], points_of_rows([row.get("points") for row in rows])
    return ObjectBoxes.of([row["box"] for row in rows], labels, areas, scale, points)


def _checked_row(number: int, row: Any) -> dict[str, Any]:
    """One box of the member. Raises Undecodable."""
    where = f"box {number}"
    if not isinstance(row, dict) or not {"box", "class"} <= row.keys() <= _KEYS:
        keys = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise Undecodable(f"{where}: expected box, class and perhaps crowd, difficult, area or points, found {keys}")
    corners = row["box"]
    if not isinstance(corners, list) or len(corners) != 4 or not all(map(is_number, corners)):
        raise Undecodable(f"{where}: expected [left, top, right, bottom], found {corners!r}")
    if not (corners[0] < corners[2] and corners[1] < corners[3]):
        raise Undecodable(f"{where}: {corners} has no area; expected [left, top, right, bottom]")
    if type(row["class"]) is not int or row["class"] < 0:
        raise Undecodable(f"{where}: expected the number of a class, found {row['class']!r}")
    for key in ("crowd", "difficult"):
        if row.get(key, False) not in (False, True, 0, 1):
            raise Undecodable(f"{where}: {key}: expected true or false, found {row[key]!r}")
    if not is_number(row.get("area", 1.0)) or row.get("area", 1.0) < 0:
        raise Undecodable(f"{where}: area: expected a number of pixels, found {row['area']!r}")
    return row


def check_boxes(value: ObjectBoxes, height: int, width: int, classes: int) -> None:
    """Refuse boxes and points that reach out of their image, and boxes of no class.

    Args:
        value: the boxes of one image.
        height: of the image, in pixels.
        width: of the image, in pixels.
        classes: how many classes there are.

    Raises:
        Undecodable: the first one that is wrong; one pixel beyond an edge is taken for a rounding, and is not.
    """
    inside = (value.boxes >= -1).all(1) & (value.boxes <= np.asarray([width + 1, height + 1] * 2)).all(1)
    outside = ~inside  # what is no number lies nowhere
    for number in np.flatnonzero(outside).tolist():
        corners = ", ".join(f"{corner:g}" for corner in value.boxes[number])
        raise Undecodable(
            f"box {number}: [{corners}] reaches out of the image of {width} x {height} pixels; expected [left, top,"
            " right, bottom] in its pixels, neither shares of its size nor a width and a height"
        )
    for number in np.flatnonzero(classes_of(value.labels) >= classes).tolist():
        wrong = int(classes_of(value.labels)[number])
        raise Undecodable(
            f"box {number} is of class {wrong}, and there are {classes}, whose numbers are 0 to {classes - 1}"
        )
    if value.points is not None:
        check_points(value.points, height, width)


def visible_objects(boxes: NDArray[np.float32], geometry: SampleGeometry, min_visible: float) -> VisibleObjects:
    """Return what is left of boxes: moved, scaled, mirrored and clipped as the image was.

    A box of which less than a pixel is left in height or width, or a smaller share than ``min_visible``, is dropped.

    Args:
        boxes: (k, 4) in pixels of the stored image; rows of zeros are none.
        geometry: what is taken of the image.
        min_visible: the smallest share of a box's area that has to be left of it.
    """
    height, width = geometry.view.out
    moved = in_view(boxes.reshape(-1, 2, 2), geometry.view).reshape(-1, 4)
    left = moved.clip(0, [width, height] * 2)
    if geometry.pad:
        by = np.tile(geometry.shift, 2)
        moved, left = moved + by, (left + by).clip(0, [width, height] * 2)
    if geometry.mirrored:
        left = np.stack([width - left[:, 2], left[:, 1], width - left[:, 0], left[:, 3]], 1)
    sides, whole = left[:, 2:] - left[:, :2], moved[:, 2:] - moved[:, :2]
    kept = (sides >= 1).all(1) & (sides.prod(1) >= min_visible * whole.prod(1))
    rows = np.flatnonzero(kept)
    return VisibleObjects(rows, left[rows].astype(np.float32))


def objects_of(geometry: SampleGeometry) -> VisibleObjects:
    """Return which of a sample's boxes are left, and where.

    Args:
        geometry: what is taken of the sample's image.

    Raises:
        ValueError: nobody worked it out, since the data have no boxes.
    """
    if geometry.objects is None:
        raise ValueError("these data have a field of boxes' properties, and none of boxes")
    return geometry.objects


class FieldOfBoxes(FieldKind):
    """A field with one row for each box of a sample.

    Attributes:
        empty: the value of a row without a box.
    """

    spatial = True
    empty: ClassVar[float] = 0

    def column(self, boxes: ObjectBoxes) -> NDArray[Any]:
        """Return what this field holds of boxes.

        Args:
            boxes: those of one image.
        """
        raise NotImplementedError

    def of_member(self, value: Any, field: FieldSpec) -> NDArray[Any]:
        """Return this field of the decoded member, with as many rows as the fullest sample has. Raises ValueError."""
        return self.filled(self.column(value), field.shape, field.dtype)

    def taken(self, pixels: NDArray[Any], geometry: SampleGeometry) -> NDArray[Any]:
        """Return the rows of the boxes that are left, in front of empty ones."""
        return self.filled(pixels[objects_of(geometry).rows], pixels.shape, pixels.dtype)

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count nothing: the field of the boxes does."""

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Draw nothing: the field of the boxes does."""

    def filled(self, rows: NDArray[Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return rows in front of empty ones.

        Args:
            rows: (m, …) of the boxes.
            shape: (k, …) of the result.
            dtype: of the result.

        Raises:
            ValueError: there are more than ``k``.
        """
        if len(rows) > shape[0]:
            raise ValueError(f"{len(rows)} boxes in a sample, and the manifest says {shape[0]} at most")
        filled = np.full(shape, self.empty, dtype)
        filled[: len(rows)] = rows
        return filled


class BoxesKind(FieldOfBoxes):
    """Where the objects are: (k, 4) left, top, right, bottom in pixels, rows of zeros behind the last one."""

    codecs: ClassVar = {BOXES_MEMBER: Codec(encode_boxes, decode_boxes)}

    def column(self, boxes: ObjectBoxes) -> NDArray[Any]:
        """Return the corners."""
        return boxes.boxes

    def taken(self, pixels: NDArray[Any], geometry: SampleGeometry) -> NDArray[Any]:
        """Return the boxes that are left, where they lie now."""
        return self.filled(objects_of(geometry).boxes, pixels.shape, pixels.dtype)

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count the objects of each class; regions that count for nothing are left out."""
        counts.objects_of(split, [label for label in value.labels.tolist() if label >= 0])

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Draw a frame in the class's colour, thin around what counts for nothing, and write the classes' names."""
        value = decode_boxes(content)
        numbers = classes_of(value.labels).tolist()
        if drawing.picture is not None:
            pen, colours = ImageDraw.Draw(drawing.picture), palette(len(classes) + 1)[1:].tolist()
            wide = max(1, max(drawing.picture.size) // 128)
            for box, label, number in zip(value.boxes.tolist(), value.labels.tolist(), numbers, strict=True):
                colour = tuple(colours[number % max(len(colours), 1)])
                pen.rectangle([box[0], box[1], box[2] - 1, box[3] - 1], outline=colour, width=wide if label >= 0 else 1)
        present = sorted({number for number, label in zip(numbers, value.labels, strict=True) if label >= 0})
        drawing.words.append(" ".join(classes[number] for number in present if number < len(classes)) or "no object")


class BoxLabelKind(FieldOfBoxes):
    """What each box is around: (k,) its class, :data:`NO_BOX` behind the last one, less for what counts for nothing."""

    codecs: ClassVar = {}
    empty: ClassVar[float] = NO_BOX

    def column(self, boxes: ObjectBoxes) -> NDArray[Any]:
        """Return the labels."""
        return boxes.labels


class BoxAreaKind(FieldOfBoxes):
    """The area of each object in pixels of the original image, (k,): no crop and no resize changes it."""

    codecs: ClassVar = {}

    def column(self, boxes: ObjectBoxes) -> NDArray[Any]:
        """Return the areas."""
        return boxes.areas


class BoxScaleKind(FieldKind):
    """Pixels of the original image that a pixel of this one is wide, (): by it predictions are measured as truth is."""

    codecs: ClassVar = {}
    spatial = True

    def of_member(self, value: Any, field: FieldSpec) -> NDArray[Any]:
        """Return the scale of the stored image."""
        return np.asarray(value.scale, field.dtype)

    def taken(self, pixels: NDArray[Any], geometry: SampleGeometry) -> NDArray[Any]:
        """Return the scale of what was taken; the mean one where a crop changed the proportion."""
        view = geometry.view
        shrunk = math.sqrt(view.box.height * view.box.width / (view.resized[0] * view.resized[1]))
        return np.asarray(pixels * shrunk, pixels.dtype)

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count nothing."""

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Draw nothing."""
