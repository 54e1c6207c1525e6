"""A controller network that writes children and learns from their rewards by policy gradient (REINFORCE).

Source:
    Zoph and Le 2017, "Neural Architecture Search with Reinforcement Learning", section 3.2: the gradient, the
    moving-average baseline, batches of children; Williams 1992 (REINFORCE). The entropy term is that of ENAS (Pham et
    al. 2018).
"""

from __future__ import annotations

import math
from typing import Literal

from expflow.config.schema import Dimension
from expflow.config.space import is_active
from expflow.search.child_search import ChildSearch
from expflow.search.recurrent_policy import Adam, RecurrentPolicy
from expflow.search.rewards import reward_of
from expflow.search.specs import ControllerSpec
from expflow.sweep.searchers import Learned, Values

_REDRAWS = 30


class ControllerSearch(ChildSearch):
    """The controller. Each child teaches it once: what it writes again is drawn anew.

    Where it has written nothing new for a number of draws, its last child is changed until it is new; that is no sample
    of the policy, and takes no part in the gradient.

    Args:
        spec: The arguments.
        space: The searched dimensions; each has listed values.
        mode: Whether more or less of the metric is better.
    """

    def __init__(self, spec: ControllerSpec, space: tuple[Dimension, ...], mode: Literal["max", "min"]) -> None:
        super().__init__(spec.seed, space, mode)
        self._spec = spec
        self.policy = RecurrentPolicy([len(options) for options in self._space.options], spec.hidden, spec.seed)
        self._adam = Adam(spec.lr)
        self._rewards: dict[str, float] = {}
        self._changed: set[str] = set()
        self._batch: list[tuple[list[tuple[int, int]], float]] = []
        self._baseline: float | None = None
        self._variance = 0.0

    def _next(self) -> Values | None:
        for _ in range(_REDRAWS):
            values = self._draw()
            if self._space.network(values) not in self._seen:
                return values
        for _ in range(_REDRAWS):
            values = self._space.mutate(values, self._rng)
            if self._space.network(values) not in self._seen:
                self._changed.add(self._space.network(values))
                return values
        unseen = self._space.unseen(self._seen, self._rng)
        if unseen is not None:
            self._changed.add(self._space.network(unseen))
        return unseen

    def _draw(self) -> Values:
        space = self._space

        def active(chosen: dict[int, int]) -> list[int]:
            values = {space.decisions[place].key: space.options[place][option] for place, option in chosen.items()}
            last = max(chosen, default=-1)
            later = range(last + 1, len(space.decisions))
            return [place for place in later if is_active(space.decisions[place], values)][:1]

        choices = self.policy.draw(active, self._rng)
        return space.ordered({space.decisions[place].key: space.options[place][option] for place, option in choices})

    def complete(self, values: Values, learned: Learned) -> None:
        """A child's reward; with the last of a batch the policy takes a step."""
        reward = reward_of(learned, self._mode, self._rewards.values())
        if reward is None or self._space.indices(values) is None:
            return
        network = self._space.network(values)
        self._rewards[network] = reward
        if network in self._changed:
            self._changed.discard(network)
            return
        self._learn(values, reward)

    def _learn(self, values: Values, reward: float) -> None:
        choices = self._space.indices(values)
        if choices is None:
            return
        self._batch.append((choices, reward))
        if len(self._batch) >= self._spec.batch:
            children, rewards = zip(*self._batch, strict=True)
            self._batch = []
            self._step(children, rewards)

    def _step(self, children: tuple[list[tuple[int, int]], ...], rewards: tuple[float, ...]) -> None:
        """A step of the policy. Advantages are in units of the rewards' spread, so no metric's scale decides."""
        mean = sum(rewards) / len(rewards)
        baseline = mean if self._baseline is None else self._baseline
        spread = sum((reward - baseline) ** 2 for reward in rewards) / len(rewards)
        decay = self._spec.baseline
        self._variance = spread if self._baseline is None else decay * self._variance + (1 - decay) * spread
        self._baseline = decay * baseline + (1 - decay) * mean
        scale = math.sqrt(self._variance) or 1.0
        advantages = [(reward - baseline) / scale for reward in rewards]
        outcome = self.policy.loss(children, advantages, self._spec.entropy)
        self._adam.step(self.policy.parameters, outcome.gradient)
