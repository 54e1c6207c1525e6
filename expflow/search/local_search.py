"""Local search: all neighbours of a child, and on to the first that is better."""

from __future__ import annotations

from typing import Literal

from expflow.config.schema import Dimension
from expflow.search.child_search import ChildSearch
from expflow.search.rewards import reward_of
from expflow.search.specs import LocalSpec
from expflow.sweep.searchers import Learned, Values


class LocalSearch(ChildSearch):
    """Hill climbing with restarts: from the best of a few random children to a better neighbour, until there is none.

    Args:
        spec: The arguments.
        space: The searched dimensions; each has listed values.
        mode: Whether more or less of the metric is better.

    Source:
        White et al. 2021, "Exploring the Loss Landscape in Neural Architecture Search", algorithm 1 and appendix
        (query until improvement).
    """

    def __init__(self, spec: LocalSpec, space: tuple[Dimension, ...], mode: Literal["max", "min"]) -> None:
        super().__init__(spec.seed, space, mode)
        self._spec = spec
        self._open: set[str] = set()
        """Networks that were proposed on this climb, and whose results are awaited."""
        self._rewards: list[float] = []
        self._restart()

    def _restart(self) -> None:
        self._drawn = 0
        self._current: tuple[float, Values] | None = None
        self._waiting: list[Values] = []
        self._open = set()
        self.parents: tuple[Values, ...] = ()
        """What the last suggestion was made from."""

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next child."""
        values = super().suggest(recorded)
        if values is not None:
            self._open.add(self._space.network(values))
        return values

    def _next(self) -> Values | None:
        self.parents = ()
        if self._drawn >= self._spec.startup and self._current is not None:
            while self._waiting:
                values = self._waiting.pop()
                if self._space.network(values) not in self._seen:
                    self.parents = (self._current[1],)
                    return values
            if not self._open:  # the top of this hill
                self._restart()
        self._drawn += 1
        return self._space.unseen(self._seen, self._rng)

    def complete(self, values: Values, learned: Learned) -> None:
        """A better child becomes the one whose neighbours are tried."""
        network = self._space.network(values)
        of_this_climb = network in self._open
        self._open.discard(network)
        reward = reward_of(learned, self._mode, self._rewards)
        if reward is None or self._space.indices(values) is None:
            return
        self._rewards.append(reward)
        if not of_this_climb or learned.kind == "infeasible":
            return
        if self._current is None or reward > self._current[0]:
            self._current = reward, dict(values)
            self._waiting = self._space.neighbours(values, self._rng)
