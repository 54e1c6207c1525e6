"""Which events of the ledger follow from a gang's messages.

A message may come twice, after the process that carried it was lost, and an attempt's last messages may come after the
driver has decided about its trial. Neither becomes an event.
"""

from __future__ import annotations

from collections.abc import Iterator

from expflow.events import (
    ArtifactWritten,
    AttemptFailed,
    CheckpointRefused,
    CheckpointSaved,
    Event,
    SystemMeasured,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from expflow.ledger.state import TrialState
from expflow.sweep.messages import (
    ArtifactWrittenMessage,
    AttemptBeganMessage,
    AttemptFailedMessage,
    AttemptStartedMessage,
    CheckpointSavedMessage,
    Message,
    ReportMessage,
    SystemMeasuredMessage,
    TrialEndedMessage,
)


class MessageDecoder:
    """Turns messages into events, in their order."""

    def __init__(self) -> None:
        self._starting: dict[str, tuple[int, str]] = {}
        """Trial -> attempt and gang, of attempts that have a gang and have not reported where they begin."""
        self._newest: dict[tuple[str, str], tuple[int, int]] = {}
        """Trial and what it wrote or measured -> attempt and step of the newest one that was recorded."""

    def decode(self, message: Message, trial: TrialState) -> Iterator[Event]:
        """The events that a message adds to what is known.

        That an attempt started (which names the gang) and that it began (which names the step) are one event.

        Args:
            message: The next message of a gang.
            trial: The state of its trial, which takes in each event before the next one is asked for.
        """
        if message.attempt < trial.attempt:  # it repeats what is known: the process that carried it was lost
            return
        if isinstance(message, AttemptStartedMessage):
            if message.attempt > trial.attempt:
                self._starting[trial.trial] = message.attempt, message.gang
            return
        starting = self._starting.pop(trial.trial, None)
        if starting is not None and (not trial.ended or trial.status == "failed"):  # a failed one may be tried again
            yield TrialStarted(trial.trial, *starting, _first_step(message, trial), _place(message))
        match message:
            case ReportMessage(step=step, metrics=metrics, progress=progress, missing=missing):
                if not trial.ended and not _is_repeated(message, trial):
                    yield TrialReported(trial.trial, message.attempt, step, dict(metrics), progress, list(missing))
            case CheckpointSavedMessage():
                if not _is_known_checkpoint(message, trial.checkpoint):
                    yield _saved(message)
            case ArtifactWrittenMessage():
                yield from self._artifact(message)
            case SystemMeasuredMessage(step=step, metrics=metrics):
                if self._is_newer("system", message):
                    yield SystemMeasured(trial.trial, message.attempt, step, dict(metrics))
            case AttemptBeganMessage(refused=refused):
                if starting is not None:
                    for reason in refused:
                        yield CheckpointRefused(trial.trial, message.attempt, reason)
            case AttemptFailedMessage():
                if not trial.ended and all(failed.attempt < message.attempt for failed in trial.failures):
                    yield _failed(message)
            case TrialEndedMessage():
                if not trial.ended and trial.status != "paused" and not _was_let_go(message):
                    yield _ended(message)

    def _is_newer(self, name: str, message: ArtifactWrittenMessage | SystemMeasuredMessage) -> bool:
        """Whether a message is no repetition of what was recorded under this name for its trial; note it."""
        key, written = (message.trial, name), (message.attempt, message.step)
        if written <= self._newest.get(key, (0, -1)):
            return False
        self._newest[key] = written
        return True

    def _artifact(self, message: ArtifactWrittenMessage) -> Iterator[Event]:
        if self._is_newer(f"artifact {message.name}", message):
            yield ArtifactWritten(
                message.trial,
                message.attempt,
                message.step,
                message.name,
                message.path,
                message.artifact_kind,
                message.sha256,
                message.size,
            )


def _saved(message: CheckpointSavedMessage) -> CheckpointSaved:
    return CheckpointSaved(
        message.trial,
        message.attempt,
        message.step,
        message.path,
        message.sha256,
        message.size,
        message.seconds,
    )


def _place(message: Message) -> dict[str, int | str]:
    """What an attempt is computed on, where its first message says it."""
    return dict(message.place) if isinstance(message, AttemptBeganMessage) else {}


def _first_step(message: Message, trial: TrialState) -> int:
    """The step that an attempt begins at, by its first message after it got a gang."""
    match message:
        case AttemptBeganMessage(step=step):
            return step
        case AttemptFailedMessage() if trial.reports:
            return trial.reports[-1].step
        case _:
            return 0


def _failed(message: AttemptFailedMessage) -> AttemptFailed:
    return AttemptFailed(message.trial, message.attempt, message.failure, message.message, message.traceback)


def _ended(message: TrialEndedMessage) -> TrialEnded:
    return TrialEnded(
        message.trial,
        message.attempt,
        message.status,
        message.step,
        message.seconds,
        message.weights,
        message.reason,
    )


def _was_let_go(message: TrialEndedMessage) -> bool:
    """Whether an attempt only stopped because its driver is leaving: the trial has not ended. What the scheduler
    stopped was recorded as ended when it was decided, and a trial that stopped by itself gives a reason."""
    return message.status == "stopped" and not message.reason


def _is_repeated(message: ReportMessage, trial: TrialState) -> bool:
    if trial.status == "paused":
        return True
    last = trial.reports[-1] if trial.reports else None
    return last is not None and last.attempt == message.attempt and last.step >= message.step


def _is_known_checkpoint(message: CheckpointSavedMessage, last: CheckpointSaved | None) -> bool:
    if last is None or last.attempt != message.attempt or last.step < message.step:
        return False
    return last.step > message.step or last.sha256 == message.sha256
