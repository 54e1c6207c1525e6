"""What configs are judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from expflow.events import TrialReported
from expflow.ledger.state import TrialState


@dataclass(frozen=True)
class Objective:
    """The metric of a sweep, and how reports of it are read.

    Attributes:
        metric: Name of the metric.
        mode: ``max`` or ``min``.
        select: ``last`` or ``best_epoch``: which of a trial's reports counts.
        unit: What schedulers count time in, ``epoch`` or ``step``.
        epochs: Epochs of a trial, where its budget does not name them.
    """

    metric: str
    mode: str
    select: str = "last"
    unit: str = "epoch"
    epochs: int = 1

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
    return sorted(means, key=lambda config: sign * means[config])[:top]
