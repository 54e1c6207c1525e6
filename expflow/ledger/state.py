"""What a ledger's events add up to. A pure fold: the same events give the same state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from expflow.events import (
    AttemptFailed,
    Decided,
    Event,
    Proposed,
    Reported,
    TrialEnded,
    TrialStarted,
)
from expflow.ledger.header import Header

TrialStatus = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass
class TrialState:
    """One trial as the ledger knows it. ``reports`` are those of the latest attempt, in order."""

    trial: str
    config: str
    seed: int
    values: dict[str, Any]
    recipe: dict[str, Any]
    budget: dict[str, Any] = field(default_factory=dict)
    status: TrialStatus = "waiting"
    decision: str = ""
    """The scheduler's last recorded decision about the trial."""
    attempt: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    seconds: float = 0.0
    weights: str = ""
    reports: list[Reported] = field(default_factory=list)
    failures: list[AttemptFailed] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of this trial by itself."""
        return self.status in ("done", "failed", "stopped")

    @property
    def metrics(self) -> dict[str, float]:
        """The last report's metrics (design section 11, rule 4); empty before the first."""
        return self.reports[-1].metrics if self.reports else {}

    @property
    def progress(self) -> float:
        """Share of the budget spent, 0 to 1."""
        if self.status == "done":
            return 1.0
        return self.reports[-1].progress if self.reports else 0.0


@dataclass
class SweepState:
    """All trials in the order they were first proposed, and which of them belong to the latest plan."""

    header: Header | None = None
    trials: dict[str, TrialState] = field(default_factory=dict)
    current: dict[str, None] = field(default_factory=dict)
    """Trial ids of the latest plan, in proposal order (a dict used as an ordered set)."""

    def plan_trials(self) -> list[TrialState]:
        """The latest plan's trials, in proposal order."""
        return [self.trials[trial] for trial in self.current]

    def start(self, header: Header) -> None:
        """A driver started. Another plan begins another set of current trials; results are kept."""
        if self.header is None or self.header.plan != header.plan:
            self.current = {}
        self.header = header
        for trial in self.trials.values():
            if trial.status == "running":  # its driver is gone
                trial.status = "waiting"

    def _propose(self, event: Proposed) -> None:
        self.current[event.trial] = None
        known = self.trials.get(event.trial)
        if known is None:
            self.trials[event.trial] = TrialState(
                event.trial, event.config, event.seed, event.values, event.recipe, event.budget
            )
            return
        known.values = event.values  # an edited space may name the same config by other keys
        if known.budget != event.budget:
            known.budget, known.status, known.decision = event.budget, "waiting", ""

    def apply(self, event: Event, at: float) -> None:
        """Take in one event that was written at ``at`` (unix seconds)."""
        if isinstance(event, Proposed):
            self._propose(event)
            return
        trial = self.trials.get(getattr(event, "trial", ""))
        if trial is None:
            return
        match event:
            case TrialStarted():
                trial.status, trial.attempt, trial.started_at = "running", event.attempt, at
                trial.reports = (
                    [each for each in trial.reports if each.step <= event.from_step] if event.from_step else []
                )
            case Reported():
                trial.reports.append(event)
            case Decided():
                trial.decision = event.decision
            case AttemptFailed():
                trial.failures.append(event)
                trial.status = "waiting"
            case TrialEnded():
                trial.status, trial.ended_at = event.status, at
                trial.seconds, trial.weights = event.seconds, event.weights
            case _:
                pass  # forks and checkpoints concern replay, not the table


def fold(lines: Iterable[tuple[float, Header | Event]]) -> SweepState:
    """The state after ``lines``: pairs of the time of writing and what was written."""
    state = SweepState()
    for at, line in lines:
        if isinstance(line, Header):
            state.start(line)
        else:
            state.apply(line, at)
    return state
