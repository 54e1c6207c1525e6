"""What MLflow is still to be told, run by run.

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
class Point:
    """One value of one metric. ``at`` is unix seconds, ``step`` the optimizer step."""

    metric: str
    value: float
    at: float
    step: int


@dataclass
class Update:
    """News of one run. ``fresh`` where it may not exist yet, or not be complete; ``retired`` where it must go."""

    points: list[Point] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    status: RunStatus | None = None
    status_at: float = 0.0
    fresh: bool = False
    retired: bool = False


class Pending:
    """News by run, in the order in which runs were first mentioned."""

    def __init__(self) -> None:
        self._updates: dict[str, Update] = {}

    def __bool__(self) -> bool:
        return bool(self._updates)

    def __iter__(self) -> Iterator[tuple[str, Update]]:
        return iter(self._updates.items())

    def of(self, key: str) -> Update:
        """The news of the run ``key``, to be added to."""
        return self._updates.setdefault(key, Update())

    def log(self, key: str, metrics: Mapping[str, float], step: int, at: float) -> None:
        """Add metrics of one step."""
        self.of(key).points.extend(Point(name, float(value), at, step) for name, value in metrics.items())

    def state(self, key: str, state: str, status: RunStatus, at: float) -> None:
        """Say how a run stands, in our words (a tag) and in MLflow's."""
        update = self.of(key)
        update.tags["expflow.state"] = state
        update.status, update.status_at = status, at

    def clear(self) -> None:
        """Forget everything: it was told, or told earlier."""
        self._updates = {}
