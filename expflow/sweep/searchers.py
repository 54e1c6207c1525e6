"""Searchers of our own. A searcher proposes one config at a time and is told what became of it.

Replay is nothing but calling it again in the same order, so a searcher's proposals may depend on its arguments and on
what it was told, and on nothing else: no clock, no global random state.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Protocol

from expflow.config.schema import Dimension
from expflow.config.space import grid, sample
from expflow.sweep.specs import Grid, Random

Values = dict[str, Any]


class SearchAlgorithm(Protocol):
    """What the proposer asks of a searcher."""

    def suggest(self) -> Values | None:
        """The next config's searched values; None when there is nothing more to propose."""

    def complete(self, values: Values, score: float | None) -> None:
        """A config has its score (mean over its seeds); None where all its seeds failed."""


class GridSearch:
    """Every combination, in the order of the file."""

    def __init__(self, spec: Grid, space: tuple[Dimension, ...]) -> None:
        self._configs: Iterator[Values] = grid(space)

    def suggest(self) -> Values | None:
        """The next combination."""
        return next(self._configs, None)

    def complete(self, values: Values, score: float | None) -> None:
        """A grid learns nothing."""


class RandomSearch:
    """Independent draws; a draw that repeats an earlier config is made again, up to a bound."""

    _TRIES = 100

    def __init__(self, spec: Random, space: tuple[Dimension, ...]) -> None:
        self._space = space
        self._left = spec.trials
        # A generator of its own: nothing else in the process may shift the draws.
        self._rng = random.Random(spec.seed)  # noqa: S311
        self._seen: set[str] = set()

    def suggest(self) -> Values | None:
        """The next draw; None after ``trials`` draws, or when the space seems to hold no further config."""
        if self._left <= 0:
            return None
        for _ in range(self._TRIES):
            values = sample(self._space, self._rng)
            if (key := repr(sorted(values.items()))) not in self._seen:
                self._seen.add(key)
                self._left -= 1
                return values
        return None

    def complete(self, values: Values, score: float | None) -> None:
        """Random search learns nothing."""
