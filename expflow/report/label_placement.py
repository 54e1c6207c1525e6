"""Names beside the points of a figure, placed so that they can be read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from expflow.report.canvas import INK, escape_mathtext

_GAP = 3.0
"""Points between a bubble and its name."""
_DISTANCES = (0.0, 12.0, 24.0, 40.0, 60.0)
"""Points further away, where there is no room beside it; a line then leads to the bubble."""
_DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
_HORIZONTAL: dict[int, Literal["left", "center", "right"]] = {1: "left", 0: "center", -1: "right"}
_VERTICAL: dict[int, Literal["bottom", "center", "top"]] = {1: "bottom", 0: "center", -1: "top"}
_FONT = 8


@dataclass(frozen=True)
class PointLabel:
    """A name for a bubble.

    Attributes:
        text: The name.
        at: The bubble's centre in the axes' values.
        radius: Its radius in points.
    """

    text: str
    at: tuple[float, float]
    radius: float


def place_labels(axes: Axes, points: Sequence[PointLabel]) -> None:
    """Write each name where it covers neither another one nor a bubble, or as little of them as there is a place for.

    Args:
        axes: The axes, which must have their final size and scale.
        points: The names, in the order in which they are placed.
    """
    dots = axes.figure.dpi / 72  # in a point
    taken = [_around(axes, point, dots) for point in points]
    for point in points:
        size = _size(axes, point.text)
        best, least = None, math.inf
        for place in _places(point):
            box = _box(axes, point, place, size, dots)
            outside = size[0] * size[1] - _shared(box, axes.bbox)
            covered = round(sum(_shared(box, other) for other in taken) + 4 * outside)
            if covered < least:
                best, least = (place, box), covered
            if least == 0:
                break
        if best is not None:
            _write(axes, point, best[0])
            taken.append(best[1])


@dataclass(frozen=True)
class _Place:
    """Alignment of a name, its offset in points, and whether that is away from its bubble."""

    horizontal: Literal["left", "center", "right"]
    vertical: Literal["bottom", "center", "top"]
    x: float
    y: float
    away: bool


def _places(point: PointLabel) -> Iterator[_Place]:
    """Where a name may stand, the nearest places first."""
    for away in _DISTANCES:
        reach = point.radius + _GAP + away
        for x, y in _DIRECTIONS:
            far = reach if 0 in (x, y) else 0.75 * reach
            yield _Place(_HORIZONTAL[x], _VERTICAL[y], x * far, y * far, away > 0)


def _write(axes: Axes, point: PointLabel, place: _Place) -> None:
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": point.radius}
    note = axes.annotate(
        escape_mathtext(point.text),
        point.at,
        xytext=(place.x, place.y),
        textcoords="offset points",
        ha=place.horizontal,
        va=place.vertical,
        fontsize=_FONT,
        color=INK,
        arrowprops=line if place.away else None,
    )
    note.set_in_layout(False)  # or the axes would shrink for it, and all places would be wrong


def _size(axes: Axes, text: str) -> tuple[float, float]:
    """Width and height of a name in dots."""
    probe = axes.text(0, 0, escape_mathtext(text), fontsize=_FONT, transform=axes.transAxes)
    box = probe.get_window_extent()
    probe.remove()
    return float(box.width), float(box.height)


def _box(axes: Axes, point: PointLabel, place: _Place, size: tuple[float, float], dots: float) -> Bbox:
    x, y = axes.transData.transform(point.at) + np.array([place.x, place.y]) * dots
    x -= {"left": 0.0, "center": 0.5, "right": 1.0}[place.horizontal] * size[0]
    y -= {"bottom": 0.0, "center": 0.5, "top": 1.0}[place.vertical] * size[1]
    return Bbox.from_bounds(x, y, *size)


def _around(axes: Axes, point: PointLabel, dots: float) -> Bbox:
    x, y = axes.transData.transform(point.at)
    reach = point.radius * dots * 0.85  # the corners of the square around a disc are free
    return Bbox.from_extents(x - reach, y - reach, x + reach, y + reach)


def _shared(one: Bbox, other: Bbox) -> float:
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)
