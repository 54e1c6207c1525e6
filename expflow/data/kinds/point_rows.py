"""Points of objects in shards: x, y and visibility of each, one behind the other in the row of the object's box.

Visibility is COCO's: 0 is not known, and its place is (0, 0); 1 is known and hidden; 2 is seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.augment.geometry import SampleGeometry, in_view
from expflow.data.decode.errors import Undecodable

UNKNOWN, HIDDEN, SEEN = 0, 1, 2
"""What is known of a point."""


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a finite number.

    Args:
        value: any value.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def point_row(points: NDArray[np.float32]) -> list[float]:
    """Return the points of one object as a row holds them.

    Args:
        points: (p, 3) x, y and visibility.
    """
    known = points[:, 2:] > 0
    return [float(number) for number in np.where(known, points, 0).ravel()]


def points_of_rows(rows: Sequence[Any]) -> NDArray[np.float32] | None:
    """Return the points of an image's objects, (n, p, 3); zeros of an object whose row has none, None without any.

    Args:
        rows: of each object the numbers, or None.

    Raises:
        Undecodable: they are none; the message says which box is wrong, and in what.
    """
    given = [checked_row(f"box {number}: points", row) for number, row in enumerate(rows) if row is not None]
    if not given:
        return None
    if len(counts := {len(points) for points in given}) > 1:
        raise Undecodable(f"points: expected as many of each box, found {' and '.join(map(str, sorted(counts)))}")
    points = np.zeros((len(rows), len(given[0]), 3), np.float32)
    points[[number for number, row in enumerate(rows) if row is not None]] = given
    return points


def checked_row(where: str, row: Any, count: int | None = None) -> NDArray[np.float32]:
    """Return the points of one object, (p, 3).

    Args:
        where: what messages begin with.
        row: x, y and visibility of each, one behind the other.
        count: how many points there have to be; None for any number.

    Raises:
        Undecodable: they are not of that form.
    """
    if not isinstance(row, list) or not row or len(row) % 3 or not all(map(is_number, row)):
        given = f"{len(row)} values" if isinstance(row, list) else repr(row)
        raise Undecodable(f"{where}: expected numbers [x, y, visibility, …], three for each point, found {given}")
    points = np.asarray(row, np.float32).reshape(-1, 3)
    if count not in (None, len(points)):
        raise Undecodable(f"{where}: expected {count} points with three numbers each, found {len(points)}")
    for place in np.flatnonzero(~np.isin(points[:, 2], (UNKNOWN, HIDDEN, SEEN))).tolist():
        raise Undecodable(
            f"{where}: point {place} has the visibility {points[place, 2]:g}; expected 0 (not known), 1 (hidden) or 2"
            " (seen)"
        )
    points[points[:, 2] == UNKNOWN] = 0
    return points


def check_points(points: NDArray[np.float32], height: int, width: int) -> None:
    """Refuse points that lie out of their image.

    Args:
        points: (n, p, 3) of one image's objects.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        Undecodable: the first one; one pixel beyond an edge is taken for a rounding, and is not.
    """
    beyond = (points[..., :2] < -1) | (points[..., :2] > np.asarray([width + 1, height + 1]))
    for number, place in np.argwhere(beyond.any(-1) & (points[..., 2] > 0)).tolist():
        x, y = points[number, place, :2]
        raise Undecodable(
            f"box {number}: point {place} at ({x:g}, {y:g}) lies out of the image of {width} x {height} pixels;"
            " expected x and y in its pixels, or the visibility 0 where the place is not known"
        )


def moved_points(points: NDArray[np.float32], geometry: SampleGeometry) -> NDArray[np.float32]:
    """Return points moved, scaled and mirrored as their image; those that are not in it any more are not known.

    In a mirrored image the points of the two sides of an object are exchanged: its left eye is then a right one.

    Args:
        points: (m, p, 3) in pixels of the stored image.
        geometry: what is taken of the image.
    """
    height, width = geometry.view.out
    places = in_view(points[..., :2], geometry.view)
    inside = _within(places, height, width)
    if geometry.pad:
        places = places + geometry.shift
        inside &= _within(places, height, width)
    if geometry.mirrored:
        places = places * [-1, 1] + [width, 0]
    moved = np.where((inside & (points[..., 2] > 0))[..., None], np.concatenate([places, points[..., 2:]], -1), 0)
    if geometry.mirrored and geometry.point_order:
        moved = moved[:, list(geometry.point_order)]
    return np.asarray(moved, np.float32)


def _within(places: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    return np.asarray(((places >= 0) & (places <= np.asarray([width, height]))).all(-1), np.bool_)
