"""What configs are judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expflow.events import TrialReported
from expflow.ledger.state import TrialState
from expflow.pareto import non_dominated_ranks


@dataclass(frozen=True)
class Objective:
    """The metric of a sweep, and how reports of it are read.

    Attributes:
        metric: Name of the metric.
        mode: ``max`` or ``min``.
        select: ``last`` or ``best_epoch``: which of a trial's reports counts.
        unit: What schedulers count time in, ``epoch`` or ``step``.
        epochs: Epochs of a trial, where its budget does not name them.
        further: Metrics, each with its direction, that configs are judged by besides.
    """

    metric: str
    mode: str
    select: str = "last"
    unit: str = "epoch"
    epochs: int = 1
    further: tuple[tuple[str, str], ...] = ()

    def value(self, trial: TrialState) -> float | None:
        """The value of a trial that counts: its last report's, or the best of all where that is selected.

        Args:
            trial: The trial's state.

        Returns:
            The metric's value; None where no report that counts has a finite one.
        """
        reports = trial.reports if self.select == "best_epoch" else trial.reports[-1:]
        values = [value for report in reports if math.isfinite(value := report.metrics.get(self.metric, math.nan))]
        return (max(values) if self.mode == "max" else min(values)) if values else None

    def score(self, report: TrialReported) -> float | None:
        """A report's metric such that more is better; None where it is missing or no finite number.

        Args:
            report: The report.
        """
        value = report.metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return None
        return value if self.mode == "max" else -value

    def time(self, report: TrialReported, trial: TrialState) -> float:
        """How far a trial is at a report, in :attr:`unit`.

        Args:
            report: The report.
            trial: The trial's state, with its budget.
        """
        if self.unit == "step":
            return float(report.step)
        epochs = trial.budget.get("trainer.epochs", self.epochs)  # it may have been extended since
        return report.metrics.get("progress/epoch", round(report.progress * epochs, 9))


def leading_configs(trials: Sequence[TrialState], objective: Objective, top: int) -> list[str]:
    """The best configs by the mean over their trials, best first; only those of which every trial is done.

    With several objectives those on the Pareto front come first, then those that are on the front without them, and so
    on; on each front the first objective decides.

    Args:
        trials: Trials of any number of configs.
        objective: What they are judged by.
        top: How many configs.
    """
    groups: dict[str, list[TrialState]] = {}
    for trial in trials:
        groups.setdefault(trial.config, []).append(trial)
    means: dict[str, float] = {}
    for config, members in groups.items():
        values = [objective.value(trial) for trial in members if trial.status == "done"]
        known = [value for value in values if value is not None]
        if len(known) == len(members):
            means[config] = sum(known) / len(known)
    sign = -1.0 if objective.mode == "max" else 1.0
    fronts = _fronts(means, groups, objective) if objective.further else dict.fromkeys(means, 0)
    return sorted(means, key=lambda config: (fronts[config], sign * means[config]))[:top]


def _fronts(
    means: Mapping[str, float], groups: Mapping[str, Sequence[TrialState]], objective: Objective
) -> dict[str, int]:
    """The front of each config, 0 for the Pareto front; behind all others what lacks a number for an objective."""
    points = {}
    for config, mean in means.items():
        metrics = mean_metrics(groups[config])
        point = [mean, *(metrics.get(metric, math.nan) for metric, _ in objective.further)]
        if all(map(math.isfinite, point)):
            points[config] = point
    ranks = non_dominated_ranks(list(points.values()), [objective.mode, *(mode for _, mode in objective.further)])
    return dict.fromkeys(means, len(means)) | dict(zip(points, ranks, strict=True))


def mean_metrics(trials: Sequence[TrialState]) -> dict[str, float]:
    """The means of the metrics that are in the last report of every trial.

    Args:
        trials: The trials of a config, at least one.
    """
    reported = [trial.metrics for trial in trials]
    common = [name for name in reported[0] if all(name in metrics for metrics in reported)]
    return {name: sum(metrics[name] for metrics in reported) / len(reported) for name in common}
