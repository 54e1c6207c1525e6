"""Searchers that learn nothing: every combination, given configs, independent draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from expflow.config.schema import Dimension
from expflow.config.space import grid, sample
from expflow.sweep.searchers import Learned, Values
from expflow.sweep.searchers.specs import Grid, Points, Random

Space = tuple[Dimension, ...]


class GridSearch:
    """Every combination, in the order of the file."""

    def __init__(self, spec: Grid, space: Space, mode: Literal["max", "min"]) -> None:
        self._configs: Iterator[Values] = grid(space)

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next combination."""
        return next(self._configs, None)

    def complete(self, values: Values, learned: Learned) -> None:
        """A grid learns nothing."""


class PointSearch:
    """The configs of the file, in its order."""

    def __init__(self, spec: Points, space: Space, mode: Literal["max", "min"]) -> None:
        self._points = iter(spec.points)

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next config."""
        point = next(self._points, None)
        return dict(point) if point is not None else None

    def complete(self, values: Values, learned: Learned) -> None:
        """A list learns nothing."""


class RandomSearch:
    """Independent draws; a draw that repeats an earlier config is made again, up to a bound."""

    _TRIES = 100

    def __init__(self, spec: Random, space: Space, mode: Literal["max", "min"]) -> None:
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
