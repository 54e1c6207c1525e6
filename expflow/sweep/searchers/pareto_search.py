"""Search for a Pareto front, with Optuna's samplers for several objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from expflow.config.identity import canonical_json
from expflow.config.schema import Dimension
from expflow.config.space import finite_values, in_condition_order, is_active, same_value
from expflow.sweep.searchers import Learned, SearchAlgorithm, Values
from expflow.sweep.searchers.optuna_search import distribution_of, fits, optuna_sampler, suggested
from expflow.sweep.searchers.specs import NSGA2Spec


class ParetoSearch(SearchAlgorithm):
    """A sampler of Optuna's that is told a value for each objective.

    A genetic algorithm crosses only what all configs have. So every key has a value in each of the sampler's trials,
    also where its condition does not hold: it is silent there, and its children may use it. What is proposed has the
    active keys alone. A config that failed, or lacks a number for an objective, takes no part in a generation.

    Args:
        spec: The arguments.
        space: The searched dimensions.
        objectives: Metrics with their directions, ``max`` or ``min``.
    """

    def __init__(self, spec: NSGA2Spec, space: tuple[Dimension, ...], objectives: tuple[tuple[str, str], ...]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._metrics = [metric for metric, _ in objectives]
        self._space = in_condition_order(space)
        self._order = [dimension.key for dimension in space]
        self._distributions = {dimension.key: distribution_of(dimension) for dimension in space}
        directions = [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for _, mode in objectives]
        self._study = optuna.create_study(directions=directions, sampler=optuna_sampler(spec))
        self._open: dict[str, list[optuna.Trial]] = {}

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """What the sampler proposes. Where the ledger has something else, the sampler is made to have proposed that."""
        trial, values = self._ask()
        if recorded is not None and canonical_json(recorded) != canonical_json(values):
            self._study.tell(trial, state=TrialState.FAIL)
            if not fits(self._space, recorded):  # of another space: nothing that this sampler could use
                return recorded
            self._study.enqueue_trial(self._params(recorded))
            trial, values = self._ask()
        self._open.setdefault(canonical_json(values), []).append(trial)
        return values

    def _ask(self) -> tuple[optuna.Trial, Values]:
        trial, chosen = self._study.ask(), Values()
        for dimension in self._space:
            drawn = suggested(trial, dimension.key, self._distributions[dimension.key])
            if is_active(dimension, chosen):
                chosen[dimension.key] = finite_values(dimension)[drawn] if dimension.kind == "choice" else drawn
        return trial, {key: chosen[key] for key in self._order if key in chosen}

    def complete(self, values: Values, learned: Learned) -> None:
        """Tell the sampler. What it did not propose itself is added to what it knows."""
        scores = self._scores(learned)
        trials = self._open.pop(canonical_json(values), [])
        for trial in trials:
            if scores is None:
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._study.tell(trial, scores)
        if not trials and scores is not None and fits(self._space, values):
            self._study.add_trial(
                optuna.trial.create_trial(params=self._params(values), distributions=self._distributions, values=scores)
            )

    def _scores(self, learned: Learned) -> list[float] | None:
        if learned.kind != "complete" or learned.score is None:
            return None
        scores = [learned.score, *(learned.metrics.get(metric, math.nan) for metric in self._metrics[1:])]
        return scores if all(map(math.isfinite, scores)) else None

    def _params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A config in the sampler's words; a silent key has its first value."""
        return {dimension.key: self._word(dimension, values) for dimension in self._space}

    def _word(self, dimension: Dimension, values: Mapping[str, Any]) -> Any:
        if dimension.key not in values:
            return _first(self._distributions[dimension.key])
        value = values[dimension.key]
        if dimension.kind != "choice":
            return value
        return next(place for place, entry in enumerate(finite_values(dimension)) if same_value(entry, value))


def _first(distribution: BaseDistribution) -> Any:
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]
