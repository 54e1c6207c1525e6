"""Searchers that learn nothing: every combination, given configs, independent draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from expflow.config.schema import Dimension
from expflow.config.space import grid, sample
from expflow.sweep.searchers import Learned, SearchAlgorithm, Values
from expflow.sweep.searchers.specs import GridSpec, PointsSpec, RandomSpec

Space = tuple[Dimension, ...]


class GridSearch(SearchAlgorithm):
    """Every combination, in the order of the file.

    Args:
        spec: The arguments, of which there are none.
        space: The searched dimensions.
        mode: Whether more or less of the metric is better; unused.
    """

    def __init__(self, spec: GridSpec, space: Space, mode: Literal["max", "min"]) -> None:
        self._configs: Iterator[Values] = grid(space)

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next combination."""
        return next(self._configs, None)

    def complete(self, values: Values, learned: Learned) -> None:
        """A grid learns nothing."""


class PointSearch(SearchAlgorithm):
    """The configs of the file, in its order.

    Args:
        spec: The arguments: the configs.
        space: The searched dimensions.
        mode: Whether more or less of the metric is better; unused.
    """

    def __init__(self, spec: PointsSpec, space: Space, mode: Literal["max", "min"]) -> None:
        self._points = iter(spec.points)

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next config."""
        point = next(self._points, None)
        return dict(point) if point is not None else None

    def complete(self, values: Values, learned: Learned) -> None:
        """A list learns nothing."""


class RandomSearch(SearchAlgorithm):
    """Independent draws; a draw that repeats an earlier config is made again, up to a bound.

    Args:
        spec: The arguments, with the seed of the draws.
        space: The searched dimensions.
        mode: Whether more or less of the metric is better; unused.
    """

    _TRIES = 100

    def __init__(self, spec: RandomSpec, space: Space, mode: Literal["max", "min"]) -> None:
        self._space = space
        # A generator of its own: nothing else in the process may shift the draws.
        self._rng = random.Random(spec.seed)  # noqa: S311
        self._seen: set[str] = set()

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next draw; None when the space seems to hold no further config."""
        for _ in range(self._TRIES):
            values = sample(self._space, self._rng)
            if (key := repr(sorted(values.items()))) not in self._seen:
                self._seen.add(key)
                return values
        return None

    def complete(self, values: Values, learned: Learned) -> None:
        """Random search learns nothing."""
