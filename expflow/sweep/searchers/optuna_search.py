"""Searchers that learn, with Optuna's samplers: ask and tell, over a space with conditions.

A study in memory holds what the sampler knows. Nothing of it is stored: after the same calls in the same order a fresh
one knows the same, because every sampler draws from a seed of its own and keeps its state in the study.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from expflow.config.identity import canonical_json
from expflow.config.schema import Dimension
from expflow.config.space import contains, finite_values, in_condition_order, is_active, same_value
from expflow.sweep.searchers import Learned, SearchAlgorithm, Values
from expflow.sweep.searchers.specs import SAMPLERS, SamplerSpec


def optuna_sampler(spec: SamplerSpec) -> optuna.samplers.BaseSampler:
    """Optuna's sampler with its seed, and without warnings about what is experimental or sampled independently.

    Args:
        spec: Which sampler, and with which options.
    """
    options: dict[str, Any] = {"seed": spec.seed, **spec.sampler_arguments}
    if spec.sampler_name == "qmc":
        options["scramble"] = True  # without it the seed would change nothing
    if spec.sampler_name in ("cmaes", "gp", "qmc"):
        options["warn_independent_sampling"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        built: optuna.samplers.BaseSampler = getattr(optuna.samplers, SAMPLERS[spec.sampler_name])(
            **{**options, **spec.options}
        )
    return built


class OptunaSearch(SearchAlgorithm):
    """One of Optuna's samplers behind our protocol.

    Args:
        spec: The arguments: which sampler, and with which options.
        space: The searched dimensions.
        mode: Whether more or less of the metric is better.
    """

    def __init__(self, spec: SamplerSpec, space: tuple[Dimension, ...], mode: Literal["max", "min"]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = in_condition_order(space)
        self._order = [dimension.key for dimension in space]
        self._distributions = {dimension.key: distribution_of(dimension) for dimension in space}
        self._study = optuna.create_study(
            direction="maximize" if mode == "max" else "minimize", sampler=optuna_sampler(spec)
        )
        self._open: dict[str, list[optuna.Trial]] = {}

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """What the sampler proposes. Where the ledger has something else, the sampler is made to have proposed that."""
        trial, values = self._ask()
        if recorded is not None and canonical_json(recorded) != canonical_json(values):
            self._study.tell(trial, state=TrialState.FAIL)
            if (params := self._params(recorded)) is None:  # of another space: nothing that this sampler could use
                return recorded
            self._study.enqueue_trial(params)
            trial, values = self._ask()
        self._open.setdefault(canonical_json(values), []).append(trial)
        return values

    def _ask(self) -> tuple[optuna.Trial, Values]:
        trial, chosen = self._study.ask(), Values()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            for dimension in self._space:
                if is_active(dimension, chosen):
                    drawn = suggested(trial, dimension.key, self._distributions[dimension.key])
                    chosen[dimension.key] = finite_values(dimension)[drawn] if dimension.kind == "choice" else drawn
        return trial, {key: chosen[key] for key in self._order if key in chosen}

    def complete(self, values: Values, learned: Learned) -> None:
        """Tell the sampler. What it did not propose itself is added to what it knows."""
        trials = self._open.pop(canonical_json(values), [])
        for trial in trials:
            self._tell(trial, learned)
        if not trials and learned.kind == "complete" and _is_number(learned.score):
            self._add(values, float(learned.score or 0.0))

    def _tell(self, trial: optuna.Trial, learned: Learned) -> None:
        if learned.kind == "failed":
            self._study.tell(trial, state=TrialState.FAIL)
        elif learned.kind == "complete" and _is_number(learned.score):
            self._study.tell(trial, learned.score)
        else:  # pruned, to a sampler: worse than what completed, and without a value worse than all
            if learned.kind == "stopped" and learned.score is not None and _is_number(learned.score):
                trial.report(learned.score, round(1000 * learned.progress))
            self._study.tell(trial, state=TrialState.PRUNED)

    def _add(self, values: Values, score: float) -> None:
        if (params := self._params(values)) is not None:
            distributions = {key: self._distributions[key] for key in params}
            self._study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))

    def _params(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The sampler's own words for ``values``; None where they are no config of this space."""
        if not fits(self._space, values):
            return None
        return dict(self._words(values))

    def _words(self, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for dimension in self._space:
            if dimension.key in values:
                value = values[dimension.key]
                if dimension.kind == "choice":
                    value = next(
                        place for place, entry in enumerate(finite_values(dimension)) if same_value(entry, value)
                    )
                yield dimension.key, value


def fits(space: list[Dimension], values: Mapping[str, Any]) -> bool:
    """Whether values are a config of a space: each active key has one of its values, and no other key is there.

    Args:
        space: The dimensions, ordered: conditions come before what they concern.
        values: Searched key -> value.
    """
    active = {dimension.key: dimension for dimension in space if is_active(dimension, values)}
    return values.keys() == active.keys() and all(contains(active[key], value) for key, value in values.items())


def _is_number(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def distribution_of(dimension: Dimension) -> BaseDistribution:
    """The distribution of a key: a listed value is drawn by its place, since Optuna takes no mappings.

    Args:
        dimension: The searched key.
    """
    if dimension.kind == "choice":
        return CategoricalDistribution(tuple(range(len(finite_values(dimension)))))
    if dimension.low is None or dimension.high is None:
        raise ValueError(f"{dimension.key}: {dimension.kind} needs low and high")
    if dimension.kind == "int":
        values = finite_values(dimension)
        return IntDistribution(values[0], values[-1], log=dimension.log, step=dimension.step)
    return FloatDistribution(float(dimension.low), float(dimension.high), log=dimension.kind == "loguniform")


def suggested(trial: optuna.Trial, key: str, distribution: BaseDistribution) -> Any:
    """What a trial draws of a key.

    Args:
        trial: The trial that was asked for.
        key: The searched key.
        distribution: Its distribution.
    """
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
    raise TypeError(f"no such distribution: {distribution}")
