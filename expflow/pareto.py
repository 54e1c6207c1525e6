"""Points with several objectives: which are beaten by none, and how much of the space they dominate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Point = Sequence[float]
Modes = Sequence[Literal["max", "min"] | str]


def dominates(one: Point, other: Point, modes: Modes) -> bool:
    """Whether a point is at least as good as another in every objective, and better in one.

    Args:
        one: A value for each objective.
        other: Likewise.
        modes: ``max`` or ``min`` for each objective.
    """
    gains = [a - b if mode == "max" else b - a for a, b, mode in zip(one, other, modes, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def non_dominated(points: Sequence[Point], modes: Modes) -> list[int]:
    """The places of the points that no other dominates, in their order; of equal points all.

    Args:
        points: A value for each objective of each point.
        modes: ``max`` or ``min`` for each objective.
    """
    return [place for place, point in enumerate(points) if not any(dominates(other, point, modes) for other in points)]


def non_dominated_ranks(points: Sequence[Point], modes: Modes) -> list[int]:
    """The front that each point is on: 0 for what none dominates, 1 for what is left without these, and so on.

    Args:
        points: A value for each objective of each point.
        modes: ``max`` or ``min`` for each objective.

    Source:
        Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", section III-A.
    """
    ranks, left, rank = [0] * len(points), list(range(len(points))), 0
    while left:
        front = {left[place] for place in non_dominated([points[place] for place in left], modes)}
        for place in front:
            ranks[place] = rank
        left, rank = [place for place in left if place not in front], rank + 1
    return ranks


def hypervolume(points: Sequence[Point], ideal: Point, reference: Point) -> float:
    """The share of the box between two corners that some point dominates, 0 to 1.

    Args:
        points: A value for each objective of each point; what lies outside of the box counts as far as it lies inside.
        ideal: The best value of each objective.
        reference: The worst value of each; an objective whose two values are equal is left out.

    Source:
        Zitzler and Thiele 1998, "Multiobjective Optimization Using Evolutionary Algorithms", section 3.1; computed by
        slices along one objective after the other.
    """
    axes = [axis for axis, (best, worst) in enumerate(zip(ideal, reference, strict=True)) if best != worst]
    if not points:
        return 0.0
    scaled = [
        tuple(min(1.0, max(0.0, (point[at] - reference[at]) / (ideal[at] - reference[at]))) for at in axes)
        for point in points
    ]
    return _volume(scaled)


def _volume(points: Sequence[tuple[float, ...]]) -> float:
    """The volume of the union of the boxes from the origin to each point."""
    if not points or not points[0]:
        return float(bool(points))
    if len(points[0]) == 1:
        return max(point[0] for point in points)
    volume, below = 0.0, 0.0
    for height in sorted({point[-1] for point in points}):
        if height > below:
            volume += (height - below) * _volume([point[:-1] for point in points if point[-1] >= height])
            below = height
    return volume
