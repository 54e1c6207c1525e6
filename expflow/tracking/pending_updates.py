"""The updates that are still to be written to MLflow, run by run.

A run is known by its *key* (``sweep``, ``trial:<id>``, ``config:<id>:<seeds>``), which is stored in a tag, so that it
is found again before anything is created twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["sweep", "config", "trial"]
RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

SWEEP = "sweep"
"""The key of the sweep's own run."""


@dataclass(frozen=True)
class RunSpec:
    """All that is needed to create a run. ``started_at`` is in unix seconds."""

    role: Role
    name: str
    tags: Mapping[str, str]
    parameters: Mapping[str, Any]
    started_at: float
    with_data: bool = True
    """Whether the sweep's data are this run's data."""


@dataclass(frozen=True)
class MetricPoint:
    """One value of one metric. ``at`` is unix seconds, ``step`` the optimizer step."""

    metric: str
    value: float
    at: float
    step: int


@dataclass
class RunUpdate:
    """The update of one run. ``fresh`` where it may not exist yet, or not be complete; ``retired`` where it is to be
    deleted."""

    points: list[MetricPoint] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Files to attach: path in the experiment's folder -> folder among the run's artifacts."""
    tags: dict[str, str] = field(default_factory=dict)
    status: RunStatus | None = None
    status_at: float = 0.0
    fresh: bool = False
    retired: bool = False


class PendingUpdates:
    """Updates by run, in the order in which runs were first mentioned."""

    def __init__(self) -> None:
        self._updates: dict[str, RunUpdate] = {}

    def __bool__(self) -> bool:
        return bool(self._updates)

    def __iter__(self) -> Iterator[tuple[str, RunUpdate]]:
        return iter(self._updates.items())

    def of(self, key: str) -> RunUpdate:
        """The update of a run, to be added to.

        Args:
            key: The run's key.
        """
        return self._updates.setdefault(key, RunUpdate())

    def log(self, key: str, metrics: Mapping[str, float], step: int, at: float) -> None:
        """Add metrics of one step.

        Args:
            key: The run's key.
            metrics: Metric name -> value.
            step: The optimizer step.
            at: When they were recorded (unix seconds).
        """
        self.of(key).points.extend(MetricPoint(name, float(value), at, step) for name, value in metrics.items())

    def state(self, key: str, state: str, status: RunStatus, at: float) -> None:
        """Set the state of a run, in our words (a tag) and in MLflow's.

        Args:
            key: The run's key.
            state: The tag ``expflow.state``.
            status: MLflow's status.
            at: Since when (unix seconds).
        """
        update = self.of(key)
        update.tags["expflow.state"] = state
        update.status, update.status_at = status, at

    def clear(self) -> None:
        """Drop everything: it was written, now or earlier."""
        self._updates = {}
