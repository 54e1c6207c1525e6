"""A predictor of rewards, and the children that it thinks worth training.

Source:
    White et al. 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture Search":
    an ensemble of networks on path encodings, independent Thompson sampling, candidates by mutation of the best.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Literal

import numpy as np

from expflow.config.schema import Dimension
from expflow.search.child_search import ChildSearch
from expflow.search.choices import features
from expflow.search.recurrent_policy import Adam, Array
from expflow.search.rewards import reward_of
from expflow.search.specs import PredictorSpec
from expflow.sweep.searchers import Learned, Values

_UNITS = 20
_FIT_STEPS = 150
_LR = 0.02
_DECAY = 1e-3


class RewardNetwork:
    """A small network from features to a reward, with two hidden layers.

    Args:
        inputs: Number of features.
        rng: Draws its first weights.
    """

    def __init__(self, inputs: int, rng: random.Random) -> None:
        sizes = [inputs, _UNITS, _UNITS, 1]
        self._weights: dict[str, Array] = {}
        for layer, (entering, leaving) in enumerate(itertools.pairwise(sizes)):
            deviation = (2 / max(1, entering)) ** 0.5
            drawn = [rng.gauss(0, deviation) for _ in range(entering * leaving)]
            self._weights[f"w{layer}"] = np.array(drawn).reshape(entering, leaving)
            self._weights[f"b{layer}"] = np.zeros(leaving)

    def fit(self, inputs_nf: Array, rewards_n: Array) -> None:
        """Follow the rewards in the sense of least squares.

        Args:
            inputs_nf: (n, features), 0 or 1.
            rewards_n: (n,), standardised.
        """
        adam = Adam(_LR)
        for _ in range(_FIT_STEPS):
            adam.step(self._weights, self._gradient(inputs_nf, rewards_n))

    def __call__(self, inputs_nf: Array) -> Array:
        """(n, features) -> (n,), predicted rewards."""
        rewards: Array = self._layers(inputs_nf)[-1][:, 0]
        return rewards

    def _layers(self, inputs_nf: Array) -> list[Array]:
        weights, outputs = self._weights, [inputs_nf]
        for layer in range(2):
            outputs.append(np.maximum(outputs[-1] @ weights[f"w{layer}"] + weights[f"b{layer}"], 0))
        return [*outputs, outputs[-1] @ weights["w2"] + weights["b2"]]

    def _gradient(self, inputs_nf: Array, rewards_n: Array) -> dict[str, Array]:
        outputs, gradient = self._layers(inputs_nf), dict[str, Array]()
        slope = (outputs[-1] - rewards_n[:, None]) / len(rewards_n)
        for layer in (2, 1, 0):
            gradient[f"w{layer}"] = outputs[layer].T @ slope + _DECAY * self._weights[f"w{layer}"]
            gradient[f"b{layer}"] = slope.sum(0)
            slope = (slope @ self._weights[f"w{layer}"].T) * (outputs[layer] > 0)
        return gradient


class PredictorSearch(ChildSearch):
    """Trains an ensemble on all results, and proposes the candidate of which a member drawn for it promises most.

    Args:
        spec: The arguments.
        space: The searched dimensions; each has listed values.
        mode: Whether more or less of the metric is better.
    """

    def __init__(self, spec: PredictorSpec, space: tuple[Dimension, ...], mode: Literal["max", "min"]) -> None:
        super().__init__(spec.seed, space, mode)
        self._spec = spec
        self._results: list[tuple[float, Values]] = []
        self._rewards: list[float] = []
        self._members: list[RewardNetwork] = []
        self._columns: dict[str, int] = {}
        self._fitted = 0

    def _next(self) -> Values | None:
        if len(self._results) < self._spec.startup:
            return self._space.unseen(self._seen, self._rng)
        if not self._members or len(self._results) - self._fitted >= self._spec.refit:
            self._fit()
        candidates = self._candidates()
        if not candidates:
            return self._space.unseen(self._seen, self._rng)
        inputs = self._inputs(candidates)
        predicted = np.stack([member(inputs) for member in self._members])
        # Independent Thompson sampling: what each candidate promises is one draw from what the members say of it.
        draws = [self._rng.gauss(float(column.mean()), float(column.std())) for column in predicted.T]
        return candidates[max(range(len(draws)), key=draws.__getitem__)]

    def _candidates(self) -> list[Values]:
        """Mutations of the best children, and as many random ones as the best are; none that is known."""
        best = sorted(self._results, key=lambda result: -result[0])[: self._spec.parents]
        drawn = [self._space.mutate(self._rng.choice(best)[1], self._rng) for _ in range(self._spec.candidates)]
        drawn += [self._space.sample(self._rng) for _ in range(self._spec.parents)]
        new = {self._space.network(values): values for values in drawn}
        return [values for network, values in new.items() if network not in self._seen]

    def _fit(self) -> None:
        known = [values for _, values in self._results]
        names = sorted({name for values in known for name in features(values)})
        self._columns = {name: column for column, name in enumerate(names)}
        rewards = np.array([reward for reward, _ in self._results])
        standardised = (rewards - rewards.mean()) / (rewards.std() or 1.0)
        inputs = self._inputs(known)
        self._members = [RewardNetwork(len(names), self._rng) for _ in range(self._spec.ensemble)]
        for member in self._members:
            member.fit(inputs, standardised)
        self._fitted = len(self._results)

    def _inputs(self, configs: Sequence[Values]) -> Array:
        """(n, features), 0 or 1; features that no result had are left out."""
        inputs = np.zeros((len(configs), len(self._columns)))
        for row, values in enumerate(configs):
            inputs[row, [self._columns[name] for name in features(values) if name in self._columns]] = 1
        return inputs

    def complete(self, values: Values, learned: Learned) -> None:
        """A result for the predictor to learn from."""
        reward = reward_of(learned, self._mode, self._rewards)
        if reward is not None and self._space.indices(values) is not None:
            self._rewards.append(reward)
            self._results.append((reward, dict(values)))
