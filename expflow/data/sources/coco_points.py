"""Keypoints in COCO's JSON: the points that its categories name, and where those of an object are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.decode.errors import Undecodable
from expflow.data.keypoint_layout import KeypointLayout, mirrored_points
from expflow.data.kinds.point_rows import checked_row

CENTRE = 0.5
"""COCO's coordinates of points are numbers of pixels, from 0; here they are places: the centre of that pixel."""


def layout_of(
    categories: Iterable[Mapping[str, Any]], pairs: Iterable[tuple[str, str]] = ()
) -> tuple[KeypointLayout, frozenset[Any]]:
    """Return the points that categories name, and the ids of the categories that have them.

    Args:
        categories: those of a file; some may have no points.
        pairs: names of points that are partners in a mirrored image, beside those that say left and right.

    Raises:
        ValueError: none has any, two have different ones, or the names or the skeleton cannot be right.
    """
    named = [category for category in categories if category.get("keypoints")]
    if not named:
        raise ValueError(
            "no category names keypoints, as {keypoints: [nose, left_eye, …]}; add the names, or use truth: boxes"
        )
    names = tuple(str(name) for name in named[0]["keypoints"])
    for category in named[1:]:
        if tuple(map(str, category["keypoints"])) != names:
            raise ValueError(
                f"the categories {named[0]['name']!r} and {category['name']!r} name different keypoints; expected the"
                " same names in the same order in all that have any"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"the category {named[0]['name']!r} has keypoints of one name twice: {', '.join(names)}")
    skeleton = _skeleton(named[0].get("skeleton") or (), len(names))
    layout = KeypointLayout(names, skeleton, mirrored_points(names, pairs))
    return layout, frozenset(category["id"] for category in named)


def _skeleton(pairs: Sequence[Any], count: int) -> tuple[tuple[int, int], ...]:
    """COCO counts points from 1. Raises ValueError."""
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(place, int) and 1 <= place <= count for place in pair):
            raise ValueError(f"skeleton: expected pairs of the points 1 to {count}, found {pair!r}")
    return tuple((first - 1, second - 1) for first, second in pairs)


def points_of(annotation: Mapping[str, Any], count: int, named: frozenset[Any]) -> NDArray[np.float32]:
    """Return the points of one object, (count, 3): x, y and visibility; zeros where none is marked.

    Args:
        annotation: the object's.
        count: how many points there are.
        named: ids of the categories that have points.

    Raises:
        Undecodable: they are not of COCO's form, or not as many as ``num_keypoints`` says are marked.
    """
    where, row = f"annotation {annotation.get('id')}: keypoints", annotation.get("keypoints")
    if not row:
        return np.zeros((count, 3), np.float32)
    if annotation["category_id"] not in named:
        raise Undecodable(
            f"{where}: its category {annotation['category_id']!r} names none; add keypoints to it, as to the others"
        )
    points = checked_row(where, row, count)
    marked = int((points[:, 2] > 0).sum())
    if annotation.get("num_keypoints", marked) != marked:
        raise Undecodable(
            f"{where}: num_keypoints is {annotation['num_keypoints']}, and {marked} have a visibility above 0; correct"
            " it, or leave it out"
        )
    points[points[:, 2] > 0, :2] += CENTRE
    return points
