"""The one stream of events that a sweep is, and the metrics a trial reports.

Facts in the past tense, written by the driver alone. The ledger stores them in order; the live table and MLflow follow
it. ``trial`` and ``config`` are ids, ``attempt`` counts from 1, ``step`` is the optimizer step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Status = Literal["done", "failed", "stopped"]
"""How a trial ended: at its full budget, by a failure that is not retried, or early by the scheduler's decision."""
Decision = Literal["continue", "stop", "pause", "resume"]
"""A paused trial keeps its last checkpoint and waits until it is resumed or stopped."""
ArtifactKind = Literal["image", "table", "text"]
"""What a file that a trial wrote holds."""
Phase = Literal["search", "confirm"]
"""Why a trial exists: the searcher proposed it, or its config is among the leaders and gets new seeds."""


@dataclass(frozen=True)
class Report:
    """One set of metrics at one optimizer step of a trial, as ``run_trial`` hands it to its caller.

    Attributes:
        step: The optimizer step.
        metrics: Metric to value.
        progress: Share of the trial's budget that is spent, 0 to 1.
        missing: Metrics that were measured and are no finite number; they are not among ``metrics``.
    """

    step: int
    metrics: Mapping[str, float]
    progress: float = 0.0
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class Event:
    """Base of all events.

    Attributes:
        kind: The name that the ledger stores.
        left_out: Fields that it does not store where they are empty.
    """

    kind: ClassVar[str] = ""
    left_out: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """The event as plain data, shared with the event; :func:`expflow.event_kinds.from_json` reads it back."""
        stored = {key: value for key, value in vars(self).items() if value or key not in self.left_out}
        return {"event": self.kind, **stored}


@dataclass(frozen=True)
class TrialProposed(Event):
    """A trial was proposed; events stand in the order of the proposals.

    Attributes:
        trial: Id of the trial.
        config: Id of its config.
        seed: Its seed.
        values: Searched key to chosen value; an inactive key is absent.
        recipe: The identity fields that differ from their defaults; of the user's own components every argument.
        budget: The recipe's budget fields (``trainer.epochs``): another budget reopens the same trial.
        draw: Which of the searcher's suggestions this is, from 1: those in between repeated configs that were known.
        phase: Why the trial exists.
    """

    kind: ClassVar[str] = "proposed"
    trial: str
    config: str
    seed: int
    values: dict[str, Any]
    recipe: dict[str, Any]
    budget: dict[str, Any] = field(default_factory=dict)
    draw: int = 0
    phase: Phase = "search"


@dataclass(frozen=True)
class TrialStarted(Event):
    """An attempt began on a gang.

    Attributes:
        trial: Id of the trial.
        attempt: The attempt's number, from 1.
        gang: Name of the gang.
        from_step: The optimizer step that it starts at: above 0 where it goes on from a checkpoint.
        place: What it is computed on (``ranks``, ``threads`` of each, ``device``), where that is known.
    """

    kind: ClassVar[str] = "started"
    left_out: ClassVar[tuple[str, ...]] = ("place",)
    trial: str
    attempt: int
    gang: str
    from_step: int = 0
    place: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialReported(Event):
    """A trial's report. There is one for each trial, attempt and step.

    Attributes:
        trial: Id of the trial.
        attempt: The attempt's number, from 1.
        step: The optimizer step.
        metrics: Metric to value.
        progress: Share of the trial's budget that is spent, 0 to 1.
        missing: Metrics that were measured and are no finite number; the ledger names them where there are any.
    """

    kind: ClassVar[str] = "reported"
    left_out: ClassVar[tuple[str, ...]] = ("missing",)
    trial: str
    attempt: int
    step: int
    metrics: dict[str, float]
    progress: float = 0.0
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SchedulerDecided(Event):
    """The scheduler decided about a report, or later about a paused trial. ``continue`` is not written.

    Attributes:
        trial: Id of the trial.
        attempt: The attempt's number, from 1.
        step: The optimizer step of the report.
        decision: What becomes of the trial.
    """

    kind: ClassVar[str] = "decided"
    trial: str
    attempt: int
    step: int
    decision: Decision


@dataclass(frozen=True)
class TrialForked(Event):
    """A trial took over another one's weights and a changed config (population based training).

    Its ids stay those of the config it began with.

    Attributes:
        trial: Id of the trial.
        source: Id of the trial whose weights it took over.
        step: The optimizer step of these weights.
        values: All searched values that it goes on with.
    """

    kind: ClassVar[str] = "forked"
    trial: str
    source: str
    step: int
    values: dict[str, Any]


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint was renamed into place.

    Attributes:
        trial: Id of the trial.
        attempt: The attempt's number, from 1.
        step: The optimizer step.
        path: Its folder, relative to the experiment's folder.
        sha256: The checksum in its manifest.
        size: Of all its files, in bytes.
        seconds: How long the training stood still for it.
    """

    kind: ClassVar[str] = "checkpoint"
    trial: str
    attempt: int
    step: int
    path: str
    sha256: str
    size: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckpointRefused(Event):
    """An attempt passed over a checkpoint because it is damaged.

    Attributes:
        trial: Id of the trial.
        attempt: The attempt's number, from 1.
        reason: What differs from its manifest.
    """

    kind: ClassVar[str] = "checkpoint_refused"
    trial: str
    attempt: int
    reason: str


@dataclass(frozen=True)
class CheckpointPruned(Event):
    """A checkpoint was deleted on purpose.

    Attributes:
        trial: Id of the trial that it belonged to.
        step: The optimizer step that it was saved at.
        path: Its folder, relative to the experiment's folder.
        reason: Why it is no longer needed, in words.
    """

    kind: ClassVar[str] = "pruned"
    trial: str
    step: int
    path: str
    reason: str


@dataclass(frozen=True)
class ArtifactWritten(Event):
    """A trial wrote a picture, a table or a text that belongs to its results.

    Attributes:
        trial: Id of the trial.
        attempt: The attempt that wrote it, from 1.
        step: The optimizer step that it shows.
        name: What it is called; the same name at another step shows the same thing later.
        path: The file, relative to the experiment's folder.
        artifact_kind: What the file holds. (``kind`` is the kind of the event.)
        sha256: Of the file.
        size: In bytes.
    """

    kind: ClassVar[str] = "artifact"
    trial: str
    attempt: int
    step: int
    name: str
    path: str
    artifact_kind: ArtifactKind
    sha256: str
    size: int


@dataclass(frozen=True)
class SystemMeasured(Event):
    """A trial's rank 0 measured what training takes of its machine: about every half minute, and at an attempt's end.

    Attributes:
        trial: Id of the trial.
        attempt: The attempt's number, from 1.
        step: The optimizer step at the end of the time that was measured.
        metrics: Metric (``system/...``) to value.
    """

    kind: ClassVar[str] = "system"
    trial: str
    attempt: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class AttemptFailed(Event):
    """An attempt failed.

    Attributes:
        trial: Id of the trial.
        attempt: The attempt's number, from 1.
        failure: The class of the failure, one of :data:`expflow.sweep.failures.RULES`.
        message: What happened, in words.
        traceback: Where it happened; "" where there is none.
    """

    kind: ClassVar[str] = "attempt_failed"
    trial: str
    attempt: int
    failure: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class TrialEnded(Event):
    """A trial is over, one way or another.

    Attributes:
        trial: Id of the trial.
        attempt: Number of its last attempt, from 1.
        status: How it ended.
        step: The last optimizer step.
        seconds: How long its last attempt took.
        weights: The sha256 of its final weights; "" where it has none.
        reason: Why a trial that is done ended before its last epoch: its recipe stopped it early.
    """

    kind: ClassVar[str] = "ended"
    trial: str
    attempt: int
    status: Status
    step: int
    seconds: float
    weights: str = ""
    reason: str = ""


@dataclass(frozen=True)
class GpuSharingMeasured(Event):
    """It was measured how many trials share a GPU (``resources.gpus_per_rank: measured``).

    Attributes:
        config: The config that needs most, in words.
        peak: Bytes that torch's allocator held at its highest; None where that is more than there is.
        context: Bytes that CUDA itself takes.
        total: Bytes of the GPU's memory.
        fits: Trials that the memory has room for.
        at_once: Trials that run at once on each GPU: fewer where there are not enough CPUs.
        devices: Share of a GPU that a rank counts as.
    """

    kind: ClassVar[str] = "packed"
    config: str
    peak: int | None
    context: int
    total: int
    fits: int
    at_once: int
    devices: float


@dataclass(frozen=True)
class NetworkMeasured(Event):
    """A config's network was measured before it was trained, or passed over (``sweep.limits``, ``sweep.proxies``).

    Attributes:
        config: Id of the config.
        metrics: ``latency_ms`` and proxies, as far as they are finite.
        seconds: How long that took.
        failure: Why something could not be measured; "" where all was.
    """

    kind: ClassVar[str] = "network_measured"
    left_out: ClassVar[tuple[str, ...]] = ("failure",)
    config: str
    metrics: dict[str, float]
    seconds: float
    failure: str = ""


@dataclass(frozen=True)
class SplitEvaluated(Event):
    """A split was evaluated that no choice may be made by. What was evaluated there, and what it gave:
    ``metrics`` and ``predictions`` are by trial id, ``ensemble``, ``uniform_soup`` and ``greedy_soup``, as asked for.

    Attributes:
        config: Id of the config.
        split: The split.
        data: Which data the split is of: the sha256 of their content, or the key of what the user's own code brings.
        number: Which evaluation of the split this is, from 1, over all results of the experiment.
        again: Whether it was asked for although there had been one before.
        metrics: Metric to value, for each of these.
        predictions: The sha256 of the file of predictions, for each of these; "" where there is none.
        members: The trials that ensemble and soups are made of.
        val: Metric to value on val, of ensemble and soups.
        when: When, in UTC, as text.
        views: The views of each image that probabilities were averaged over, as ``--augment`` said; "" for none.
    """

    kind: ClassVar[str] = "looked"
    config: str
    split: str
    data: str
    number: int
    again: bool
    metrics: dict[str, dict[str, float]]
    predictions: dict[str, str] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    val: dict[str, dict[str, float]] = field(default_factory=dict)
    when: str = ""
    views: str = ""


@dataclass(frozen=True)
class DriverStopped(Event):
    """The driver closed the ledger on purpose.

    Attributes:
        reason: ``finished``, ``interrupted`` or ``error``.
        details: Further facts, as plain data.
    """

    kind: ClassVar[str] = "driver_stopped"
    reason: str
    details: dict[str, Any] = field(default_factory=dict)
