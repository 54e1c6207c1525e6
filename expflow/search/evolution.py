"""Regularised evolution: the oldest child dies, not the worst."""

from __future__ import annotations

from collections import deque
from typing import Literal

from expflow.config.schema import Dimension
from expflow.search.child_search import ChildSearch
from expflow.search.rewards import reward_of
from expflow.search.specs import EvolutionSpec
from expflow.sweep.searchers import Learned, Values

_MOST_MUTATIONS = 50


class EvolutionSearch(ChildSearch):
    """Aging evolution: a child is a mutation of the best of a sample of the population, which forgets its oldest.

    Args:
        spec: The arguments.
        space: The searched dimensions; each has listed values.
        mode: Whether more or less of the metric is better.

    Source:
        Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", algorithm 1.
    """

    def __init__(self, spec: EvolutionSpec, space: tuple[Dimension, ...], mode: Literal["max", "min"]) -> None:
        super().__init__(spec.seed, space, mode)
        self._spec = spec
        self._population: deque[tuple[float, Values]] = deque(maxlen=spec.population)
        self._rewards: list[float] = []
        self.parents: tuple[Values, ...] = ()
        """What the last suggestion was made from."""

    def _next(self) -> Values | None:
        self.parents = ()
        if len(self._seen) < self._spec.population or not self._population:
            return self._space.unseen(self._seen, self._rng)
        for _ in range(_MOST_MUTATIONS):
            self.parents = (self._fittest(),)
            values = self.parents[0]
            if self._spec.crossover and self._rng.random() < self._spec.crossover:
                self.parents = (values, self._fittest())
                values = self._space.cross_over(*self.parents, self._rng)
            values = self._space.mutate(values, self._rng)
            if self._space.network(values) not in self._seen:
                return values
        self.parents = ()
        return self._space.unseen(self._seen, self._rng)

    def _fittest(self) -> Values:
        count = min(self._spec.sample, len(self._population))
        return max(self._rng.sample(list(self._population), count), key=lambda member: member[0])[1]

    def complete(self, values: Values, learned: Learned) -> None:
        """A child that was trained joins the population; the oldest one leaves it."""
        reward = reward_of(learned, self._mode, self._rewards)
        if reward is None or self._space.indices(values) is None:
            return
        self._rewards.append(reward)
        if learned.kind != "infeasible":
            self._population.append((reward, dict(values)))
