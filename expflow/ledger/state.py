"""What a ledger's events add up to. A pure fold: the same events give the same state."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from expflow.events import (
    AttemptFailed,
    CheckpointSaved,
    Decided,
    Event,
    Forked,
    Looked,
    Packed,
    Phase,
    Proposed,
    Reported,
    TrialEnded,
    TrialStarted,
)
from expflow.ledger.header import Header

TrialStatus = Literal["waiting", "running", "paused", "done", "failed", "stopped"]


@dataclass(slots=True)
class TrialState:
    """One trial as the ledger knows it. ``reports`` are those of the latest attempt, in order."""

    trial: str
    config: str
    seed: int
    values: dict[str, Any]
    recipe: dict[str, Any]
    budget: dict[str, Any] = field(default_factory=dict)
    phase: Phase = "search"
    status: TrialStatus = "waiting"
    decision: str = ""
    """The scheduler's last recorded decision about the trial."""
    attempt: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    seconds: float = 0.0
    spent: float = 0.0
    """Seconds of all attempts that are over, as far as the driver's clock knows them."""
    weights: str = ""
    reports: list[Reported] = field(default_factory=list)
    failures: list[AttemptFailed] = field(default_factory=list)
    forks: list[Forked] = field(default_factory=list)
    checkpoint: CheckpointSaved | None = None
    """The newest checkpoint that it can go on from, its own or one that a fork gave it."""

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

    @property
    def latest_values(self) -> dict[str, Any]:
        """The searched values it trains with now: those of its last fork, else those it began with."""
        return self.forks[-1].values if self.forks else self.values


@dataclass
class SweepState:
    """All trials in the order they were first proposed, and which of them belong to the latest plan.

    ``lean`` keeps of each trial what a driver needs: no recipe, and of an ended trial no report but the last. A sweep
    of many thousand trials would otherwise hold in memory what the ledger holds on the disk.
    """

    header: Header | None = None
    trials: dict[str, TrialState] = field(default_factory=dict)
    current: dict[str, None] = field(default_factory=dict)
    """Trial ids of the latest plan, in proposal order (a dict used as an ordered set)."""
    lean: bool = False
    ended: int = 0
    """How many trials of the latest plan have ended."""
    running: dict[str, None] = field(default_factory=dict)
    """The running trials, in the order they started (a dict used as an ordered set)."""
    at: float = 0.0
    """When the newest event was written (unix seconds)."""
    looks: list[Looked] = field(default_factory=list)
    """All looks at splits that no choice may be made by, of whatever plan, in their order."""
    packed: Packed | None = None
    """How the last driver's trials share GPUs, where it measured that."""

    @property
    def devices(self) -> float:
        """Devices that one trial of the last driver's occupies."""
        if self.packed is not None:
            return self.packed.devices
        return self.header.devices if self.header is not None else 1.0

    def plan_trials(self) -> list[TrialState]:
        """The latest plan's trials, in proposal order."""
        return [self.trials[trial] for trial in self.current]

    def start(self, header: Header, at: float = 0.0) -> None:
        """A driver started. Another plan begins another set of current trials; results are kept."""
        if self.header is None or self.header.plan != header.plan:
            self.current, self.ended = {}, 0
        self.header, self.packed = header, None
        for trial in [self.trials[each] for each in self.running]:  # their driver is gone
            trial.spent += max(0.0, self.at - trial.started_at)
            trial.status = _idle(trial)
        self.running.clear()
        self.at = max(self.at, at)

    def apply(self, event: Event, at: float) -> None:
        """Take in one event that was written at ``at`` (unix seconds)."""
        self.at = max(self.at, at)
        if isinstance(event, Proposed):
            self._propose(event)
            return
        if isinstance(event, Looked):
            self.looks.append(event)
            return
        if isinstance(event, Packed):
            self.packed = event
            return
        trial = self.trials.get(getattr(event, "trial", ""))
        if trial is None:
            return
        before = trial.ended
        self._take(trial, event, at)
        if trial.status == "running":
            self.running[trial.trial] = None
        else:
            self.running.pop(trial.trial, None)
        if trial.trial in self.current:
            self.ended += trial.ended - before

    def _propose(self, event: Proposed) -> None:
        known = self.trials.get(event.trial)
        if known is None:
            recipe = {} if self.lean else event.recipe
            known = self.trials[event.trial] = TrialState(
                event.trial, event.config, event.seed, event.values, recipe, event.budget, event.phase
            )
        else:
            if event.trial in self.current:
                self.ended -= known.ended
            known.values, known.phase = event.values, event.phase  # an edited space may name the config by other keys
            if known.budget != event.budget:
                known.budget = event.budget
                if known.status == "done":  # what was stopped or failed stays so: a longer budget is no reason
                    known.status, known.decision = "waiting", ""
        self.current[event.trial] = None
        self.ended += known.ended

    def _take(self, trial: TrialState, event: Event, at: float) -> None:
        match event:
            case TrialStarted():
                trial.status, trial.attempt, trial.started_at = "running", event.attempt, at
                trial.reports = [each for each in trial.reports if each.step <= event.from_step]
            case Reported():
                trial.reports.append(_interned(event) if self.lean else event)
            case Decided():
                trial.decision = event.decision
                if event.decision == "pause":
                    trial.status = "paused"
                    trial.spent += max(0.0, at - trial.started_at)
                elif event.decision == "resume":
                    trial.status = "waiting"
            case Forked():
                trial.forks.append(event)
            case CheckpointSaved():
                trial.checkpoint = event
            case AttemptFailed():
                trial.failures.append(event)
                trial.status = _idle(trial)
                trial.spent += max(0.0, at - trial.started_at)
            case TrialEnded():
                self._end(trial, event, at)

    def _end(self, trial: TrialState, event: TrialEnded, at: float) -> None:
        if trial.status == "running":
            trial.spent += event.seconds
        trial.status, trial.ended_at = event.status, at
        trial.seconds, trial.weights = event.seconds, event.weights
        if self.lean and len(trial.reports) > 1 and self.header is not None:
            metric = self.header.metric if self.header.select == "best_epoch" else ""
            trial.reports = _kept(trial.reports, metric, self.header.mode)


def _idle(trial: TrialState) -> TrialStatus:
    """What a trial without a gang is: a paused one stays so, though it may have run to write its checkpoint anew."""
    return "paused" if trial.decision == "pause" else "waiting"


def _interned(event: Reported) -> Reported:
    """The report with one object for each metric's name, however many reports have it."""
    metrics = {sys.intern(name): value for name, value in event.metrics.items()}
    return Reported(sys.intern(event.trial), event.attempt, event.step, metrics, event.progress)


def _kept(reports: list[Reported], metric: str, mode: str) -> list[Reported]:
    """The last report, and before it the best by ``metric`` where one is named."""
    scored = [each for each in reports[:-1] if metric in each.metrics]
    sign = 1.0 if mode == "max" else -1.0
    best = max(scored, key=lambda each: sign * each.metrics[metric], default=None)
    return [*([best] if best is not None else []), reports[-1]]


def fold(lines: Iterable[tuple[float, Header | Event]], state: SweepState | None = None) -> SweepState:
    """The state after ``lines``: pairs of the time of writing and what was written."""
    state = state or SweepState()
    for at, line in lines:
        if isinstance(line, Header):
            state.start(line, at)
        else:
            state.apply(line, at)
    return state
