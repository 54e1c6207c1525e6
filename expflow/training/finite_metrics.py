"""What a metric that is no finite number means: a diverged trial where something is decided by it, else a gap."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from expflow.config.component_specs import schedule_spec
from expflow.errors import Diverged
from expflow.training.contract import Attempt

_LOSS = re.compile(r"(.*/)?loss|(train|fit|val|valid|validation|test)_loss")


@dataclass(frozen=True)
class MeasuredMetrics:
    """One set of metrics.

    Attributes:
        values: Metric -> value, a finite number.
        missing: Metrics that were no finite number: a score of a class that no sample is of, for example.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def __or__(self, other: MeasuredMetrics) -> MeasuredMetrics:
        """Both together; where both have a metric, the other's counts."""
        values = {**{key: value for key, value in self.values.items() if key not in other.missing}, **other.values}
        missing = dict.fromkeys([*(name for name in self.missing if name not in other.values), *other.missing])
        return MeasuredMetrics(values, tuple(missing))


def finite(metrics: Mapping[str, float], step: int, decisive: Collection[str] = ()) -> MeasuredMetrics:
    """The metrics that are finite numbers, and the names of those that are none.

    Args:
        metrics: Metric -> value as it was logged.
        step: The optimizer step, for the message.
        decisive: Metrics that the trial is judged by, or that its recipe watches. A loss always is.

    Raises:
        Diverged: A decisive one is no finite number.
    """
    missing = tuple(name for name, value in metrics.items() if not math.isfinite(value))
    for name in missing:
        if name in decisive or _LOSS.fullmatch(name):
            raise Diverged(f"{name} became {metrics[name]} by step {step}")
    values = {name: value for name, value in metrics.items() if name not in missing} if missing else dict(metrics)
    return MeasuredMetrics(values, missing)


def decisive_metrics(attempt: Attempt) -> frozenset[str]:
    """The metrics by which something is decided: the trial is judged by them, or its recipe watches them.

    Args:
        attempt: The trial.
    """
    recipe = attempt.recipe
    schedules = recipe.schedule.values() if isinstance(recipe.schedule, Mapping) else [recipe.schedule]
    watched = [schedule_spec(schedule).watched_metric for schedule in schedules if schedule is not None]
    if recipe.trainer.early_stopping is not None:
        watched.append(recipe.trainer.early_stopping.metric)
    return frozenset(filter(None, (attempt.judged_by, *watched)))
