"""The one stream of events that a sweep is, and the metrics a trial reports.

Events are facts in the past tense, written by the driver alone. The ledger stores them in order; whoever else wants to
know (live table, MLflow) follows the ledger. ``trial`` is a trial id, ``config`` a config id, ``attempt`` counts the
tries of one trial from 1, ``step`` is the optimizer step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

Status = Literal["done", "failed", "stopped"]
"""How a trial ended: at its full budget, by a failure that is not retried, or early by the scheduler's decision."""

Decision = Literal["continue", "stop", "pause", "resume"]
"""A paused trial keeps its last checkpoint and waits until it is resumed or stopped."""

Phase = Literal["search", "confirm"]
"""Why a trial exists: the searcher proposed it, or its config is among the leaders and gets new seeds."""


@dataclass(frozen=True)
class Report:
    """One set of metrics at one optimizer step of a trial, as ``run_trial`` hands it to its caller."""

    step: int
    metrics: Mapping[str, float]
    progress: float = 0.0
    """Share of the trial's budget that is spent, 0 to 1."""


@dataclass(frozen=True)
class Event:
    """Base of all events. ``kind`` is the name that the ledger stores."""

    kind: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        """The event as plain data; :func:`from_json` reads it back."""
        return {"event": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Proposed(Event):
    """A trial was proposed (in call order). ``recipe`` holds the identity fields that differ from their defaults.

    Of the user's own components it holds every argument, since their defaults stand in code that may change.
    """

    kind: ClassVar[str] = "proposed"
    trial: str
    config: str
    seed: int
    values: dict[str, Any]
    """Searched key -> chosen value; an inactive key is absent."""
    recipe: dict[str, Any]
    budget: dict[str, Any] = field(default_factory=dict)
    """The recipe's budget fields (``trainer.epochs``): another budget reopens the same trial."""
    draw: int = 0
    """Which of the searcher's suggestions this is, from 1: those in between repeated configs that were known."""
    phase: Phase = "search"


@dataclass(frozen=True)
class TrialStarted(Event):
    """An attempt began on a gang. ``from_step`` > 0 where it goes on from a checkpoint."""

    kind: ClassVar[str] = "started"
    trial: str
    attempt: int
    gang: str
    from_step: int = 0


@dataclass(frozen=True)
class Reported(Event):
    """A trial's report. Keyed by (trial, attempt, step)."""

    kind: ClassVar[str] = "reported"
    trial: str
    attempt: int
    step: int
    metrics: dict[str, float]
    progress: float = 0.0


@dataclass(frozen=True)
class Decided(Event):
    """What the scheduler said: about a report, or later about a paused trial. Not written where it is ``continue``."""

    kind: ClassVar[str] = "decided"
    trial: str
    attempt: int
    step: int
    decision: Decision


@dataclass(frozen=True)
class Forked(Event):
    """A trial took over another one's weights at ``step`` and a changed config (population based training).

    ``values`` are all searched values that it goes on with; its ids stay those of the config it began with.
    """

    kind: ClassVar[str] = "forked"
    trial: str
    source: str
    step: int
    values: dict[str, Any]


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint was renamed into place; ``path`` is relative to the experiment's folder, ``size`` in bytes."""

    kind: ClassVar[str] = "checkpoint"
    trial: str
    attempt: int
    step: int
    path: str
    sha256: str
    size: int = 0


@dataclass(frozen=True)
class CheckpointRefused(Event):
    """An attempt passed over a checkpoint because it is damaged; ``reason`` says what differs from its manifest."""

    kind: ClassVar[str] = "checkpoint_refused"
    trial: str
    attempt: int
    reason: str


@dataclass(frozen=True)
class AttemptFailed(Event):
    """An attempt failed. ``failure`` is its class, one of :data:`expflow.sweep.failures.RULES`."""

    kind: ClassVar[str] = "attempt_failed"
    trial: str
    attempt: int
    failure: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class TrialEnded(Event):
    """A trial is over, one way or another. ``weights`` is the sha256 of its final weights ("" where it has none).

    ``reason`` says why a trial that is done ended before its last epoch: its recipe stopped it early.
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
class Packed(Event):
    """How many trials share a GPU (``resources.gpus_per_rank: measured``), and by which measurement. In bytes.

    ``config`` (in words) needs most: ``peak``, as torch's allocator held at its highest (None: more than there is), and
    ``context``, which CUDA itself takes, of ``total``. ``fits`` is what the memory has room for, ``at_once`` what was
    chosen, since trials want CPUs, too. A rank counts as ``devices`` of a GPU.
    """

    kind: ClassVar[str] = "packed"
    config: str
    peak: int | None
    context: int
    total: int
    fits: int
    at_once: int
    devices: float

    @property
    def words(self) -> str:
        """``measured 3.1 GiB of 80.0 GiB for depth=56: 12 trials at once on each GPU``."""
        which = f" for {self.config}" if self.config else ""
        total = f"{self.total / 2**30:.1f} GiB"
        if self.peak is None:
            found = f"measured more than the GPU's {total}{which}"
        else:
            found = f"measured {(self.peak + self.context) / 2**30:.1f} GiB of {total}{which}"
        more = f" (it has memory for {self.fits})" if self.fits > self.at_once else ""
        return f"{found}: {self.at_once} {'trial' if self.at_once == 1 else 'trials'} at once on each GPU{more}"


@dataclass(frozen=True)
class Looked(Event):
    """Somebody looked at a split that no choice may be made by: what was evaluated there, and what it gave.

    ``metrics`` and ``predictions`` (the file's sha256, "" where there is none) are by trial id, and by ``ensemble``,
    ``uniform_soup`` and ``greedy_soup`` where these were asked for; ``members`` says which trials those are made of,
    and ``val`` what they gave on val.
    """

    kind: ClassVar[str] = "looked"
    config: str
    split: str
    data: str
    """Which data the split is of: the sha256 of their content, or their key where the user's own code brings them."""
    number: int
    """Which look at the split this is, from 1, over all results of the experiment."""
    again: bool
    """Whether it was asked for although there had been one."""
    metrics: dict[str, dict[str, float]]
    predictions: dict[str, str] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    val: dict[str, dict[str, float]] = field(default_factory=dict)
    when: str = ""
    """When, in UTC, as people write it."""


@dataclass(frozen=True)
class DriverStopped(Event):
    """The driver closed the ledger on purpose: ``finished``, ``interrupted`` or ``error``."""

    kind: ClassVar[str] = "driver_stopped"
    reason: str
    details: dict[str, Any] = field(default_factory=dict)


EVENTS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        Proposed,
        TrialStarted,
        Reported,
        Decided,
        Forked,
        CheckpointSaved,
        CheckpointRefused,
        AttemptFailed,
        TrialEnded,
        Packed,
        Looked,
        DriverStopped,
    )
}


def from_json(data: Mapping[str, Any]) -> Event:
    """The event that ``data`` describes; fields that a newer expflow added are ignored.

    Raises KeyError for an unknown kind and TypeError for a missing field.
    """
    event = EVENTS[data["event"]]
    known = {each.name for each in fields(event)}
    return event(**{key: value for key, value in data.items() if key in known})
