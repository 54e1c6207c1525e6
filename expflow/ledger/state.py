"""The state that a ledger's events add up to. A pure fold: the same events give the same state."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from expflow.events import (
    ArtifactWritten,
    AttemptFailed,
    CheckpointSaved,
    DriverStopped,
    Event,
    GpuSharingMeasured,
    NetworkMeasured,
    Phase,
    SchedulerDecided,
    SplitEvaluated,
    TrialEnded,
    TrialForked,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from expflow.ledger.header import Header
from expflow.ledger.report_columns import ReportColumns, in_columns

StateLine = Header | Event | ReportColumns
"""What a state is made of: a driver's start, an event, or several reports of one trial in a row."""

TrialStatus = Literal["waiting", "running", "paused", "done", "failed", "stopped"]


@dataclass(slots=True)
class AttemptSpan:
    """A stretch of time in which a gang trained a trial.

    Attributes:
        attempt: The attempt's number, from 1.
        gang: Name of the gang.
        began: When (unix seconds).
        over: When it ended; 0 while it runs.
        ending: Why it ended: ``done``, ``stopped`` or ``failed`` as the trial did, ``paused``, ``interrupted`` (its
            driver was gone), or the class of the failure after which another attempt may follow.
    """

    attempt: int
    gang: str
    began: float
    over: float = 0.0
    ending: str = ""


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
    place: dict[str, int | str] = field(default_factory=dict)
    """What the latest attempt is computed on, where that is known."""
    reports: Sequence[TrialReported] = field(default_factory=list)
    failures: list[AttemptFailed] = field(default_factory=list)
    forks: list[TrialForked] = field(default_factory=list)
    checkpoint: CheckpointSaved | None = None
    """The newest checkpoint that it can go on from, its own or one that a fork gave it."""
    artifacts: dict[tuple[str, str, int], ArtifactWritten] = field(default_factory=dict)
    """Name and step -> the newest file that the trial wrote under them; empty in a lean state."""
    spans: list[AttemptSpan] = field(default_factory=list)
    """When and where it was trained, in order; empty in a lean state."""

    def end_span(self, at: float, ending: str) -> None:
        """The stretch of training that is open, where one is, is over.

        Args:
            at: When (unix seconds).
            ending: Why.
        """
        if self.spans and not self.spans[-1].over:
            self.spans[-1].over, self.spans[-1].ending = at, ending

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of this trial by itself."""
        return self.status in ("done", "failed", "stopped")

    @property
    def metrics(self) -> dict[str, float]:
        """The last report's metrics (not the best one: no choice over epochs inflates it); empty before the first."""
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
class DriverStart:
    """A driver's start: what was planned and declared then.

    Attributes:
        header: What the driver was asked to do.
        at: When it was written (unix seconds).
        planned: Id of each trial that was proposed of its plan -> the budget it was proposed with. Drivers of the same
            plan share it.
        finished: Whether the driver ended with nothing left to propose or to train.
    """

    header: Header
    at: float
    planned: dict[str, dict[str, Any]]
    finished: bool = False


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
    split_evaluations: list[SplitEvaluated] = field(default_factory=list)
    """All evaluations on splits that no choice may be made by, of whatever plan, in their order."""
    packed: GpuSharingMeasured | None = None
    """How the last driver's trials share GPUs, where it measured that."""
    measured: dict[str, NetworkMeasured] = field(default_factory=dict)
    """Config id -> what was measured of its network before training, in the order of measurement."""
    starts: list[DriverStart] = field(default_factory=list)
    """Every driver's start, in their order; empty in a lean state."""

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
        """Take in a driver's start. Another plan begins another set of current trials; results are kept.

        Args:
            header: The driver's header.
            at: When it was written (unix seconds).
        """
        same_plan = self.header is not None and self.header.plan == header.plan
        if not same_plan:
            self.current, self.ended = {}, 0
        if not self.lean:
            planned = self.starts[-1].planned if same_plan and self.starts else {}
            self.starts.append(DriverStart(header, at, planned))
        self.header, self.packed = header, None
        for trial in [self.trials[name] for name in self.running]:  # their driver is gone
            trial.spent += max(0.0, self.at - trial.started_at)
            trial.status = _idle(trial)
            trial.end_span(self.at, "interrupted")
        self.running.clear()
        self.at = max(self.at, at)

    def apply(self, event: Event | ReportColumns, at: float) -> None:
        """Take in one event, or the reports of one trial.

        Args:
            event: The event.
            at: When it was written (unix seconds).
        """
        self.at = max(self.at, at)
        if isinstance(event, TrialProposed):
            self._propose(event)
            return
        if isinstance(event, SplitEvaluated):
            self.split_evaluations.append(event)
            return
        if isinstance(event, GpuSharingMeasured):
            self.packed = event
            return
        if isinstance(event, NetworkMeasured):
            self.measured[event.config] = event
            return
        if isinstance(event, DriverStopped):
            self._stop(event)
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

    def _stop(self, event: DriverStopped) -> None:
        """A driver that halted at a limit, or only evaluated a test split, does not say that nothing is left."""
        if self.starts and event.reason == "finished" and not {"why", "test_seconds"} & event.details.keys():
            self.starts[-1].finished = True
        for name in self.running:
            self.trials[name].end_span(self.at, "interrupted")

    def _propose(self, event: TrialProposed) -> None:
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
        if self.starts:
            self.starts[-1].planned[event.trial] = event.budget
        self.ended += known.ended

    def _take(self, trial: TrialState, event: Event | ReportColumns, at: float) -> None:
        match event:
            case TrialStarted():
                trial.status, trial.attempt, trial.started_at = "running", event.attempt, at
                trial.place = event.place
                trial.reports = [report for report in trial.reports if report.step <= event.from_step]
                trial.artifacts = {key: file for key, file in trial.artifacts.items() if file.step <= event.from_step}
                if not self.lean:
                    trial.spans.append(AttemptSpan(event.attempt, event.gang, at))
            case TrialReported():
                _own_reports(trial).append(_interned(event) if self.lean else event)
            case ReportColumns():
                trial.reports = [*trial.reports, *event] if trial.reports else event
            case SchedulerDecided():
                trial.decision = event.decision
                if event.decision == "pause":
                    trial.status = "paused"
                    trial.spent += max(0.0, at - trial.started_at)
                    trial.end_span(at, "paused")
                elif event.decision == "resume":
                    trial.status = "waiting"
            case ArtifactWritten() if not self.lean:
                trial.artifacts[event.name, event.artifact_kind, event.step] = event
            case TrialForked():
                trial.forks.append(event)
            case CheckpointSaved():
                trial.checkpoint = event
            case AttemptFailed():
                trial.failures.append(event)
                trial.status = _idle(trial)
                trial.spent += max(0.0, at - trial.started_at)
                trial.end_span(at, event.failure)
            case TrialEnded():
                self._end(trial, event, at)

    def _end(self, trial: TrialState, event: TrialEnded, at: float) -> None:
        if trial.status == "running":
            trial.spent += event.seconds
        trial.status, trial.ended_at = event.status, at
        trial.end_span(at, event.status)
        trial.seconds, trial.weights = event.seconds, event.weights
        if not self.lean:
            trial.reports = in_columns(trial.reports)  # from now on they are only read
        elif len(trial.reports) > 1 and self.header is not None:
            metric = self.header.metric if self.header.select == "best_epoch" else ""
            trial.reports = _kept(trial.reports, metric, self.header.mode)


def _own_reports(trial: TrialState) -> list[TrialReported]:
    """The trial's reports as a list that can grow."""
    if not isinstance(trial.reports, list):
        trial.reports = list(trial.reports)
    return trial.reports


def _idle(trial: TrialState) -> TrialStatus:
    """The status of a trial without a gang: a paused one stays so, though it may have run to write its checkpoint
    anew."""
    return "paused" if trial.decision == "pause" else "waiting"


def _interned(event: TrialReported) -> TrialReported:
    """The report with one object for each metric's name, however many reports have it."""
    metrics = {sys.intern(name): value for name, value in event.metrics.items()}
    return replace(event, trial=sys.intern(event.trial), metrics=metrics)


def _kept(reports: Sequence[TrialReported], metric: str, mode: str) -> list[TrialReported]:
    """The last report, and before it the best by ``metric`` where one is named."""
    if not metric:
        return [reports[-1]]
    scored = [report for report in reports[:-1] if metric in report.metrics]
    sign = 1.0 if mode == "max" else -1.0
    best = max(scored, key=lambda report: sign * report.metrics[metric], default=None)
    return [*([best] if best is not None else []), reports[-1]]


def fold(lines: Iterable[tuple[float, StateLine]], state: SweepState | None = None) -> SweepState:
    """The state after a row of headers, events and reports.

    Args:
        lines: Pairs of the time of writing (unix seconds) and what was written.
        state: The state before them; by default an empty one. It is changed.
    """
    state = state or SweepState()
    for at, line in lines:
        if isinstance(line, Header):
            state.start(line, at)
        else:
            state.apply(line, at)
    return state
