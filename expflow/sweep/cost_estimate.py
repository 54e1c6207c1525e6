"""What the trials of a plan cost: parameters, multiply-adds, and the time as measured on a few real steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from expflow.architectures import NetworkCost
from expflow.config.identity import config_text
from expflow.config.schema import Recipe
from expflow.config.spec import UserComponent
from expflow.errors import ExperimentInvalid
from expflow.sweep.network_counts import BuildCheck, check_networks
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.trial_expansion import planned_trials
from expflow.training.template.process import RankTemplate

if TYPE_CHECKING:
    from expflow.training.step_timing import StepTiming

MEASURED_CONFIGS = 8
"""Configs whose steps are really measured; the others are interpolated over their multiply-adds."""


@dataclass(frozen=True)
class TrialCost:
    """The cost of one planned trial.

    Attributes:
        trial: The trial.
        count: Parameters and multiply-adds; None where only the task's own code knows the network or its data.
        seconds: How long it is expected to train; None where nothing could be measured.
        steps: What was measured of the trial's own config; None where ``seconds`` is interpolated between others.
    """

    trial: PlannedTrial
    count: NetworkCost | None
    seconds: float | None = None
    steps: StepTiming | None = None


def check_builds(plan: Plan, template: RankTemplate | None = None) -> list[TrialCost]:
    """Parameters and multiply-adds of every trial, from a build on the meta device.

    Args:
        plan: The plan whose trials are built.
        template: Builds them in a fork that has imported torch already; None: they are built in this process.

    Raises:
        ExperimentInvalid: With every config that cannot be built, before anything is started.
    """
    trials, first = list(planned_trials(plan)), dict[str, PlannedTrial]()
    for trial in trials:
        first.setdefault(trial.config, trial)
    checks = [
        BuildCheck(trial.recipe, trial.data.spec if trial.data is not None else None, trial.weights)
        for trial in first.values()
    ]
    findings = dict(zip(first, check_networks(plan, checks, template), strict=True))
    refused = {name: finding.refused for name, finding in findings.items() if finding.refused}
    _refuse(plan, {config_text(first[name].values): reason for name, reason in refused.items()})
    begun = [
        plan.problem_at(key, message, first[name].values)
        for name, finding in findings.items()
        for key, message in finding.problems
    ]
    if begun:
        raise ExperimentInvalid(dict.fromkeys(begun))
    return [TrialCost(trial, findings[trial.config].cost) for trial in trials]


def _refuse(plan: Plan, wrong: Mapping[str, str]) -> None:
    """Raise ExperimentInvalid where ``wrong`` (config in words -> reason) holds something: the first one, and the rest
    by name, as they mostly have one reason."""
    if not wrong:
        return
    (config, reason), *others = wrong.items()
    more = f"; the same or alike in {', '.join(other for other, _ in others)}" if others else ""
    where = f" (in the config {config}{more})" if config else ""
    key, message = _place(plan.loaded.experiment.recipe, reason)
    raise ExperimentInvalid([plan.problem_at(key, message + where)])


def _place(recipe: Recipe, reason: str) -> tuple[str, str]:
    """The key of what cannot be built, the model or one of its parts, and the reason."""
    name, _, rest = reason.partition(": ")
    if isinstance(recipe.model, Mapping) and name in recipe.model:
        return f"model.{name}", rest
    return "model", reason


def relative_costs(rows: Sequence[TrialCost]) -> dict[str, float]:
    """Relative cost of each trial by its id: multiply-adds times epochs; empty where they are not all known.

    Args:
        rows: The trials' costs.
    """
    macs = {row.trial.trial: row.count.macs for row in rows if row.count is not None and row.count.macs}
    if len(macs) != len(rows):
        return {}
    return {row.trial.trial: float(macs[row.trial.trial]) * row.trial.budget["trainer.epochs"] for row in rows}


def measure_times(plan: Plan, rows: Sequence[TrialCost]) -> list[TrialCost]:
    """The costs with the seconds that each trial is expected to train, measured on this machine with one rank.

    Args:
        plan: The plan that the trials belong to.
        rows: The trials' costs.

    Raises:
        ExperimentInvalid: The user's code fails in those steps, as it would in the trial.
    """
    threads = plan.loaded.experiment.resources.cpus_per_rank
    measured: dict[str, float] = {}
    steps: dict[str, StepTiming] = {}
    wrong: dict[str, str] = {}
    for row in _sample(rows):
        try:
            measurement = _measure(row, threads)
        except Exception as error:  # noqa: BLE001  the user's network, loss or task runs here and may raise anything
            wrong[config_text(row.trial.values)] = f"a few steps of training fail: {type(error).__name__}: {error}"
            continue
        if measurement is not None:
            measured[row.trial.config], steps[row.trial.config] = measurement
    _refuse(plan, wrong)
    return [
        TrialCost(row.trial, row.count, _estimate(row, rows, measured), steps.get(row.trial.config)) for row in rows
    ]


def _sample(rows: Sequence[TrialCost]) -> list[TrialCost]:
    """At most MEASURED_CONFIGS configs, evenly spread from the cheapest to the most expensive."""
    by_config: Mapping[str, TrialCost] = {row.trial.config: row for row in rows}
    ordered = sorted(by_config.values(), key=_macs)
    if len(ordered) <= MEASURED_CONFIGS:
        return ordered
    picks = np.linspace(0, len(ordered) - 1, MEASURED_CONFIGS).round().astype(int)
    return [ordered[index] for index in picks]


def _macs(row: TrialCost) -> float:
    return float(row.count.macs or 0) if row.count else 0.0


def _measure(row: TrialCost, threads: int) -> tuple[float, StepTiming] | None:
    """Seconds of the whole trial, and the steps that say so."""
    from expflow.training.step_timing import measure_steps  # imports torch and Lightning

    recipe, data = row.trial.recipe, row.trial.data
    if data is None or recipe.data is None or isinstance(recipe.data, UserComponent):
        return None
    steps = measure_steps(recipe, data.root, threads)
    return (steps.trial_seconds(recipe, data.spec.samples), steps) if steps is not None else None


def _estimate(row: TrialCost, rows: Sequence[TrialCost], measured: Mapping[str, float]) -> float | None:
    if row.trial.config in measured:
        return measured[row.trial.config]
    known = sorted({(_macs(cost), measured[cost.trial.config]) for cost in rows if cost.trial.config in measured})
    if not known:
        return None
    return float(np.interp(_macs(row), [macs for macs, _ in known], [seconds for _, seconds in known]))
