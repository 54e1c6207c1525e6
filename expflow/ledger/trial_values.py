"""Which value of a trial counts, and how the configs stand by it: the one rule of selection, deletion and reports.

The rules are those of docs/inference.md ("The value that counts", "Who is ranked").
"""

from __future__ import annotations

import math

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState


def finite(value: object) -> float | None:
    """A value as a number; None where it is missing, no number, infinite or nan.

    Args:
        value: What a report holds under a metric's name.
    """
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def last(trial: TrialState, metric: str) -> float | None:
    """A metric of the last report; None where it is missing or not a finite number.

    Args:
        trial: The trial.
        metric: A reported name with its split.
    """
    return finite(trial.metrics.get(metric))


def best_epoch(trial: TrialState, metric: str, mode: str) -> float | None:
    """The best finite value of all reports; None where there is none.

    Args:
        trial: The trial.
        metric: A reported name with its split.
        mode: ``max`` or ``min``: which direction is better.
    """
    values = [value for report in trial.reports if (value := finite(report.metrics.get(metric))) is not None]
    return (max(values) if mode == "max" else min(values)) if values else None


def counted_value(trial: TrialState, metric: str, header: Header) -> float | None:
    """The value that counts: a finished trial's last report, or its best epoch where the file says so.

    Only the sweep's own metric has a best epoch; all others are the last report's.

    Args:
        trial: The trial.
        metric: A reported name with its split.
        header: The sweep's header.

    Returns:
        None unless the trial is ``done``, or where it has no finite value.
    """
    if trial.status != "done":
        return None
    if metric == header.metric and header.select == "best_epoch":
        return best_epoch(trial, metric, header.mode)
    return last(trial, metric)


def rank_by_mean(state: SweepState) -> list[str]:
    """Ids of the latest plan's configs by the mean of the sweep's metric over their finished seeds, best first.

    Equal ones stand as they were proposed; a config without a value is not among them.

    Args:
        state: What the ledger adds up to.
    """
    header = state.header
    if header is None:
        return []
    values: dict[str, list[float]] = {}
    for trial in state.plan_trials():
        if (value := counted_value(trial, header.metric, header)) is not None:
            values.setdefault(trial.config, []).append(value)
    sign = -1.0 if header.mode == "max" else 1.0
    first = {trial.config: place for place, trial in reversed(list(enumerate(state.plan_trials())))}
    return sorted(values, key=lambda config: (sign * math.fsum(values[config]) / len(values[config]), first[config]))
