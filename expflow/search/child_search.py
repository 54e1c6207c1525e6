"""What all searchers of this package are: choices, draws of their own, and the networks that were proposed."""

from __future__ import annotations

import random
from abc import abstractmethod
from typing import Literal

from expflow.config.schema import Dimension
from expflow.search.choices import ChoiceSpace
from expflow.sweep.searchers import SearchAlgorithm, Values


class ChildSearch(SearchAlgorithm):
    """A searcher that knows which networks were proposed. What the ledger has recorded stands in place of its own draw.

    Args:
        seed: Of its draws.
        space: The searched dimensions; each has listed values.
        mode: Whether more or less of the metric is better.
    """

    def __init__(self, seed: int, space: tuple[Dimension, ...], mode: Literal["max", "min"]) -> None:
        self._mode = mode
        self._space = ChoiceSpace(space)
        self._rng = random.Random(seed)  # noqa: S311 - nothing else in the process may shift the draws
        self._seen: set[str] = set()

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next child."""
        values = self._next()
        if recorded is not None:
            values = recorded
        if values is not None:
            self._seen.add(self._space.network(values))
        return values

    @abstractmethod
    def _next(self) -> Values | None:
        """The next child as it is drawn; None where there is none."""
