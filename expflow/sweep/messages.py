"""The messages of a running trial: from its rank to the dispatcher, and on to the conductor.

There is one class for each kind, and one way to make it, whether the trial runs on Ray or in the driver's own process.
:class:`~expflow.sweep.message_decoder.MessageDecoder` turns them into events of the ledger.

They cross Ray by cloudpickle, thousands a second. It calls a Python function for every object of a class, which costs
more than the message itself; between two processes they are therefore plain tuples (:func:`to_wire`).
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, Self

from expflow.errors import ExpflowError
from expflow.events import ArtifactKind, Report, Status
from expflow.sweep.failures import failure_class
from expflow.text import encodable
from expflow.training.contract import Artifact, BatchFinding, Began, Notice, Outcome, Saved, SystemMeasurement


@dataclass(frozen=True, slots=True)
class AttemptMessage:
    """What all messages have in common.

    Attributes:
        trial: The trial's id.
        attempt: Number of the attempt that the message is about, from 1.
    """

    trial: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptStartedMessage(AttemptMessage):
    """An attempt was given a gang.

    Attributes:
        gang: The gang's name.
    """

    gang: str


@dataclass(frozen=True, slots=True)
class AttemptBeganMessage(AttemptMessage):
    """An attempt has read its checkpoint, or has none, and begins to train.

    Attributes:
        step: Optimizer step that it begins at.
        refused: For each newer checkpoint that was passed over, what is wrong with it.
        place: What it is computed on.
    """

    step: int
    refused: tuple[str, ...] = ()
    place: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchTriedMessage(AttemptMessage):
    """One batch of the trial's network was tried before its training.

    Attributes:
        metrics: Names of the metrics that were reported.
        failure: Why a batch fails; empty where none does.
        alone: Whether it fails because it has one sample.
        skipped: Why nothing can be said; empty where something was found.
        key: Key of the recipe that the failure is about; empty where it is about the code.
    """

    metrics: tuple[str, ...] = ()
    failure: str = ""
    alone: bool = False
    skipped: str = ""
    key: str = ""

    @classmethod
    def from_finding(cls, trial: str, attempt: int, finding: BatchFinding) -> Self:
        """The message of a finding.

        Args:
            trial: The trial's id.
            attempt: Number of the attempt.
            finding: What came of trying a batch.
        """
        return cls(trial, attempt, finding.metrics, finding.failure, finding.alone, finding.skipped, finding.key)

    @property
    def finding(self) -> BatchFinding:
        """What came of trying a batch."""
        return BatchFinding(self.metrics, self.failure, self.alone, self.skipped, self.key)


@dataclass(frozen=True, slots=True)
class ReportMessage(AttemptMessage):
    """A trial's report.

    Attributes:
        step: Optimizer step.
        metrics: Metric's name -> value.
        progress: Share of the trial's budget that is spent, 0 to 1.
        missing: Metrics that were measured and are no finite number.
    """

    step: int
    metrics: dict[str, float]
    progress: float = 0.0
    missing: tuple[str, ...] = ()

    @classmethod
    def from_report(cls, trial: str, attempt: int, report: Report) -> Self:
        """The message of a report.

        Args:
            trial: The trial's id.
            attempt: Number of the attempt.
            report: What the trial reported; its metrics may be numbers of numpy or torch.
        """
        metrics = {name: float(value) for name, value in report.metrics.items()}
        return cls(trial, attempt, report.step, metrics, report.progress, tuple(report.missing))


@dataclass(frozen=True, slots=True)
class CheckpointSavedMessage(AttemptMessage):
    """A checkpoint was written.

    Attributes:
        step: Optimizer step that it holds.
        path: Its folder, relative to the experiment's.
        sha256: sha256 of its manifest, which holds all others.
        size: Bytes of all its files.
        seconds: How long the training stood still for it.
    """

    step: int
    path: str
    sha256: str
    size: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ArtifactWrittenMessage(AttemptMessage):
    """A picture, a table or a text was written.

    Attributes:
        step: Optimizer step that it shows.
        name: What it is called.
        path: The file, relative to the experiment's folder.
        artifact_kind: What the file holds.
        sha256: Of the file.
        size: Bytes of the file.
    """

    step: int
    name: str
    path: str
    artifact_kind: ArtifactKind
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class SystemMeasuredMessage(AttemptMessage):
    """It was measured what training takes of its machine.

    Attributes:
        step: Optimizer step at the end of the time that was measured.
        metrics: Metric's name -> value.
    """

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class AttemptFailedMessage(AttemptMessage):
    """An attempt failed.

    Attributes:
        failure: Its class, one of :data:`expflow.sweep.failures.RULES`.
        message: The error in words.
        traceback: The user's traceback; empty where it would tell nothing.
        seconds: Seconds that the attempt took.
        device_bytes_left: Bytes of device memory that are still in use after it.
    """

    failure: str
    message: str
    traceback: str = ""
    seconds: float = 0.0
    device_bytes_left: int = 0

    @classmethod
    def from_error(
        cls,
        trial: str,
        attempt: int,
        error: BaseException,
        *,
        seconds: float,
        results: Path | None = None,
        device_bytes_left: int = 0,
    ) -> Self:
        """The message of an error that the trial raised.

        Args:
            trial: The trial's id.
            attempt: Number of the attempt.
            error: What was raised; of an error of the code the traceback is kept.
            seconds: Seconds that the attempt took.
            results: The folder of all results of the experiment; None where nothing is kept.
            device_bytes_left: Bytes of device memory that are still in use.
        """
        failure = failure_class(error, results)
        trace = "".join(traceback.format_exception(error)) if failure == "code" else ""
        text = str(error) if isinstance(error, ExpflowError) else f"{type(error).__name__}: {error}"
        return cls(trial, attempt, failure, encodable(text), encodable(trace), seconds, device_bytes_left)


@dataclass(frozen=True, slots=True)
class TrialEndedMessage(AttemptMessage):
    """The last message of an assigned trial: it is done, was stopped, or is not tried again.

    Attributes:
        status: How it ended.
        step: Optimizer step that it came to; 0 where a failed one's is not known.
        seconds: Seconds that its last attempt took.
        weights: sha256 over the final weights; empty where there are none.
        reason: Why its own recipe ended it early; empty where it did not.
        device_bytes_left: Bytes of device memory that are still in use after it.
    """

    status: Status
    step: int
    seconds: float
    weights: str = ""
    reason: str = ""
    device_bytes_left: int = 0

    @classmethod
    def from_outcome(
        cls, trial: str, attempt: int, outcome: Outcome, *, seconds: float, device_bytes_left: int = 0
    ) -> Self:
        """The message of an attempt that did not raise.

        Args:
            trial: The trial's id.
            attempt: Number of the attempt.
            outcome: What :func:`~expflow.training.contract.run_trial` returned.
            seconds: Seconds that the attempt took.
            device_bytes_left: Bytes of device memory that are still in use.
        """
        status: Literal["stopped", "done"] = "stopped" if outcome.stopped else "done"
        return cls(trial, attempt, status, outcome.step, seconds, outcome.weights, outcome.reason, device_bytes_left)

    @classmethod
    def from_failure(cls, failed: AttemptFailedMessage, step: int = 0) -> Self:
        """The end of a trial whose last attempt failed.

        Args:
            failed: That attempt's message.
            step: Optimizer step of its last report; 0 where it is not known.
        """
        return cls(failed.trial, failed.attempt, "failed", step, failed.seconds)


WireMessage = tuple[str, tuple[Any, ...]]
"""A message between two processes: the name of its kind, and the values of its fields in their order."""

Message = (
    AttemptStartedMessage
    | AttemptBeganMessage
    | BatchTriedMessage
    | ReportMessage
    | CheckpointSavedMessage
    | ArtifactWrittenMessage
    | SystemMeasuredMessage
    | AttemptFailedMessage
    | TrialEndedMessage
)

FinalMessage = AttemptFailedMessage | TrialEndedMessage
"""What an attempt ends with."""


def notice_message(trial: str, attempt: int, notice: Notice, experiment: Path | None) -> Message:
    """The message of a notice that the trial gave.

    Args:
        trial: The trial's id.
        attempt: Number of the attempt.
        notice: Where the attempt begins, or what it wrote.
        experiment: The experiment's folder, which paths are made relative to; None leaves them as they are.
    """
    match notice:
        case Began(step=step, refused=refused, place=place):
            return AttemptBeganMessage(trial, attempt, step, tuple(refused), dict(place))
        case Saved(step=step, path=path, sha256=sha256, size=size, seconds=seconds):
            return CheckpointSavedMessage(trial, attempt, step, _relative(path, experiment), sha256, size, seconds)
        case Artifact(step=step, name=name, path=path, kind=kind, sha256=sha256, size=size):
            where = _relative(path, experiment)
            return ArtifactWrittenMessage(trial, attempt, step, name, where, kind, sha256, size)
        case SystemMeasurement(step=step, metrics=metrics):
            return SystemMeasuredMessage(trial, attempt, step, dict(metrics))


def _relative(path: Path, experiment: Path | None) -> str:
    return str(path if experiment is None else path.relative_to(experiment))


_KINDS: dict[str, type[Message]] = {
    "started": AttemptStartedMessage,
    "began": AttemptBeganMessage,
    "tried": BatchTriedMessage,
    "report": ReportMessage,
    "saved": CheckpointSavedMessage,
    "artifact": ArtifactWrittenMessage,
    "system": SystemMeasuredMessage,
    "attempt_failed": AttemptFailedMessage,
    "ended": TrialEndedMessage,
}
"""Name of a kind on the wire -> its class."""

_ENCODERS: Mapping[type, tuple[str, attrgetter[Any]]] = {
    message: (kind, attrgetter(*(field.name for field in fields(message)))) for kind, message in _KINDS.items()
}


def to_wire(messages: Iterable[Message]) -> list[WireMessage]:
    """Messages as plain tuples, for another process.

    Args:
        messages: The messages in their order.
    """
    wire = []
    for message in messages:
        kind, values = _ENCODERS[type(message)]
        wire.append((kind, values(message)))
    return wire


def from_wire(wire: Iterable[WireMessage]) -> list[Message]:
    """The messages that :func:`to_wire` made plain.

    Args:
        wire: Kind and values of each.
    """
    return [_KINDS[kind](*values) for kind, values in wire]
