"""Population based training: members that fall behind take over weights and config of the best, changed a little.

A member keeps its trial, with its id and its seed, for life; what changes is recorded as forks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from expflow.config.schema import Dimension
from expflow.config.space import finite_values, in_condition_order, is_active, same_value, sample
from expflow.sweep.schedulers import Order, SchedulerContext
from expflow.sweep.schedulers.cohorts import Cohort, CohortMember, CohortScheduler
from expflow.sweep.schedulers.specs import PBTSpec
from expflow.sweep.searchers import Values

_TRIES = 20
"""Changed configs that are tried before the donor's own is taken: the schema may refuse some."""


class PopulationBasedTraining(CohortScheduler):
    """Every config is a member; they wait for each other at every interval. A later edit's configs are a population
    of their own.

    Args:
        spec: The arguments.
        surroundings: The sweep: its space, and what the schema accepts.

    Source:
        Jaderberg et al. 2017, Population Based Training of Neural Networks.
    """

    def __init__(self, spec: PBTSpec, surroundings: SchedulerContext) -> None:
        self._spec, self._surroundings = spec, surroundings
        self._keys = spec.changing(tuple(dimension.key for dimension in surroundings.space))
        super().__init__(self._population)

    def _population(self, number: int) -> Cohort:
        def decide(generation: int, ranked: Sequence[CohortMember]) -> list[Order]:
            return self._exploit(f"{self._spec.seed} {number} {generation}", ranked)

        return Cohort(lambda generation: float(self._spec.interval * (generation + 1)), None, decide, hold=True)

    def _exploit(self, place: str, ranked: Sequence[CohortMember]) -> list[Order]:
        """The last ``quantile`` of the members fork from random ones of the first."""
        count = min(max(1, int(len(ranked) * self._spec.quantile)), len(ranked) // 2)
        orders = []
        for member in ranked[len(ranked) - count :]:
            (trial,) = member.values
            # Made anew for each decision, so that it depends on the place of the decision and on nothing before it.
            rng = random.Random(f"{place} {trial}")  # noqa: S311
            donor = rng.choice(ranked[:count])
            (source, values), *_ = donor.values.items()
            orders.append(Order(trial, "fork", source, self._explore(values, rng)))
        return orders

    def _explore(self, values: Values, rng: random.Random) -> Values:
        """The donor's values with the changing keys changed; the donor's own where the schema refuses every change."""
        for _ in range(_TRIES):
            changed = self._changed(values, rng)
            if self._surroundings.accepts(changed):
                return changed
        return dict(values)

    def _changed(self, values: Values, rng: random.Random) -> Values:
        space = in_condition_order(self._surroundings.space)
        fresh = sample(self._surroundings.space, rng)
        chosen: Values = {}
        for dimension in space:
            key = dimension.key
            if not is_active(dimension, chosen):
                continue
            if key not in values or (key in self._keys and rng.random() < self._spec.resample):
                chosen[key] = fresh[key] if key in fresh else _anew(dimension, rng)
            elif key in self._keys:
                chosen[key] = _moved(dimension, values[key], self._spec.factor, rng)
            else:
                chosen[key] = values[key]
        keys = [dimension.key for dimension in self._surroundings.space]
        return {key: chosen[key] for key in keys if key in chosen}


def _anew(dimension: Dimension, rng: random.Random) -> Any:
    """A draw for a key whose conditions hold only after the change."""
    return sample((dimension.model_copy(update={"when": {}}),), rng)[dimension.key]


def _moved(dimension: Dimension, value: Any, factor: float, rng: random.Random) -> Any:
    """A number times or divided by ``factor``, inside its interval; a listed value's neighbour."""
    up = rng.random() < 0.5
    if dimension.kind == "choice":
        values = finite_values(dimension)
        place = next(place for place, entry in enumerate(values) if same_value(entry, value))
        return values[min(max(place + (1 if up else -1), 0), len(values) - 1)]
    moved = value * factor if up else value / factor
    low, high = float(dimension.low or 0.0), float(dimension.high or 0.0)
    if dimension.kind != "int":
        return min(max(moved, low), high)
    steps = max(1, abs(round((moved - value) / dimension.step)))
    return int(min(max(value + (steps if up else -steps) * dimension.step, low), finite_values(dimension)[-1]))
