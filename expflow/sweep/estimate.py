"""What a plan will cost: parameters, multiply-adds, and the time as measured on a few real steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from expflow.architectures import Count, count
from expflow.config.identity import readable
from expflow.config.schema import Recipe
from expflow.config.spec import Foreign, Spec
from expflow.data.build import Prepared
from expflow.errors import ExperimentInvalid, Problem, UserError
from expflow.sweep.plan import Plan, PlannedTrial

if TYPE_CHECKING:
    from expflow.training.measure import Steps

MEASURED_CONFIGS = 8
"""Configs whose steps are really measured; the others are interpolated over their multiply-adds."""


@dataclass(frozen=True)
class Row:
    """One trial of the plan. ``seconds`` is None where nothing could be measured; ``steps`` is what was measured of the
    trial's own config, and None where ``seconds`` is interpolated between others."""

    trial: PlannedTrial
    count: Count | None
    seconds: float | None = None
    steps: Steps | None = None


def check_builds(plan: Plan) -> list[Row]:
    """Parameters and multiply-adds of every trial, from a build on the meta device.

    Raises :class:`ExperimentInvalid` with every config that cannot be built, before anything is started.
    """
    rows: list[Row] = []
    counts: dict[str, Count | None] = {}
    wrong: dict[str, str] = {}
    begun: list[Problem] = []
    for trial in plan.trials():
        if trial.config not in counts:
            try:
                counts[trial.config] = counted(trial.recipe, trial.data)
                begun += [plan.problem(key, message, trial.values) for key, message in _beginning(trial)]
            except ExperimentInvalid:  # it says where by itself
                raise
            except UserError as error:
                counts[trial.config] = None
                wrong[readable(trial.values)] = str(error)
        rows.append(Row(trial, counts[trial.config]))
    _refuse(plan, wrong)
    if begun:
        raise ExperimentInvalid(dict.fromkeys(begun))
    return rows


def _beginning(trial: PlannedTrial) -> list[tuple[str, str]]:
    """What of ``init`` the network does not bear out, by key; nothing where only the trial knows its network."""
    recipe = trial.recipe
    if recipe.init is None or trial.data is None or not isinstance(recipe.model, Spec):
        return []
    from expflow.training.transfer.check import complaints  # imports torch

    return complaints(recipe, trial.data.spec, trial.weights)


def _refuse(plan: Plan, wrong: Mapping[str, str]) -> None:
    """Raise ExperimentInvalid where ``wrong`` (config in words -> reason) holds something: the first one, and the rest
    by name, as they mostly have one reason."""
    if not wrong:
        return
    (config, reason), *others = wrong.items()
    more = f"; the same or alike in {', '.join(each for each, _ in others)}" if others else ""
    where = f" (in the config {config}{more})" if config else ""
    raise ExperimentInvalid([plan.problem("model", reason + where)])


def counted(recipe: Recipe, data: Prepared | None) -> Count | None:
    """Parameters and multiply-adds; None where the task brings its own network or data: only its code knows shapes."""
    if recipe.model is None or data is None:
        return None
    return count(recipe.model, data.spec)


def weights(rows: Sequence[Row]) -> dict[str, float]:
    """Relative cost of each trial: multiply-adds times epochs; empty where they are not all known."""
    found = {row.trial.trial: row.count.macs for row in rows if row.count is not None and row.count.macs}
    if len(found) != len(rows):
        return {}
    return {row.trial.trial: float(found[row.trial.trial]) * row.trial.budget["trainer.epochs"] for row in rows}


def with_times(plan: Plan, rows: Sequence[Row]) -> list[Row]:
    """The rows with the seconds that each trial is expected to train, measured on this machine with one rank.

    Raises :class:`ExperimentInvalid` where the user's code fails in those steps, as it would in the trial.
    """
    threads = plan.loaded.experiment.resources.cpus_per_rank
    measured: dict[str, float] = {}
    steps: dict[str, Steps] = {}
    wrong: dict[str, str] = {}
    for row in _sample(rows):
        try:
            found = _measure(row, threads)
        except Exception as error:  # noqa: BLE001  the user's network, loss or task runs here and may raise anything
            wrong[readable(row.trial.values)] = f"a few steps of training fail: {type(error).__name__}: {error}"
            continue
        if found is not None:
            measured[row.trial.config], steps[row.trial.config] = found
    _refuse(plan, wrong)
    return [Row(row.trial, row.count, _estimate(row, rows, measured), steps.get(row.trial.config)) for row in rows]


def _sample(rows: Sequence[Row]) -> list[Row]:
    """At most MEASURED_CONFIGS configs, evenly spread from the cheapest to the most expensive."""
    by_config: Mapping[str, Row] = {row.trial.config: row for row in rows}
    ordered = sorted(by_config.values(), key=_macs)
    if len(ordered) <= MEASURED_CONFIGS:
        return ordered
    picks = np.linspace(0, len(ordered) - 1, MEASURED_CONFIGS).round().astype(int)
    return [ordered[index] for index in picks]


def _macs(row: Row) -> float:
    return float(row.count.macs or 0) if row.count else 0.0


def _measure(row: Row, threads: int) -> tuple[float, Steps] | None:
    """Seconds of the whole trial, and the steps that say so."""
    from expflow.training.measure import measure_steps  # imports torch and Lightning

    recipe, data = row.trial.recipe, row.trial.data
    if data is None or recipe.data is None or isinstance(recipe.data, Foreign):
        return None
    found = measure_steps(recipe, data.root, threads)
    return (found.trial_seconds(recipe, data.spec.samples), found) if found is not None else None


def _estimate(row: Row, rows: Sequence[Row], measured: Mapping[str, float]) -> float | None:
    if row.trial.config in measured:
        return measured[row.trial.config]
    known = sorted({(_macs(each), measured[each.trial.config]) for each in rows if each.trial.config in measured})
    if not known:
        return None
    return float(np.interp(_macs(row), [macs for macs, _ in known], [seconds for _, seconds in known]))
