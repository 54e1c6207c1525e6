"""What a gang's messages say that is new: the events that they become.

A message may come twice, after what carried it was lost on its way, and an attempt's last words may come after the
driver has decided about its trial. Neither becomes an event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from expflow.events import (
    AttemptFailed,
    CheckpointRefused,
    CheckpointSaved,
    Event,
    Reported,
    TrialEnded,
    TrialStarted,
)
from expflow.ledger.state import TrialState

Message = Mapping[str, Any]


class News:
    """Turns messages into events, in their order."""

    def __init__(self) -> None:
        self._starting: dict[str, tuple[int, str]] = {}
        """Trial -> attempt and gang, of attempts that have a gang and have not said where they begin."""

    def of(self, message: Message, trial: TrialState) -> Iterator[Event]:
        """What a gang's message says that is new.

        ``started`` names the gang, ``began`` the step that the attempt begins at; together they are one event.
        """
        kind, attempt = message["kind"], message["attempt"]
        if attempt < trial.attempt:  # told again, after what carried it was lost
            return
        if kind == "started":
            if attempt > trial.attempt:
                self._starting[trial.trial] = attempt, message["gang"]
            return
        starting = self._starting.pop(trial.trial, None)
        if starting is not None and (not trial.ended or trial.status == "failed"):  # a failed one may be tried again
            reached = trial.reports[-1].step if trial.reports else 0
            step = message["step"] if kind == "began" else reached if kind == "attempt_failed" else 0
            yield TrialStarted(trial.trial, *starting, from_step=step)
        match kind:
            case "report" if not trial.ended and not _repeats(trial, message):
                metrics = dict(message["metrics"])
                yield Reported(trial.trial, attempt, message["step"], metrics, message["progress"])
            case "saved" if not _is_saved(trial.checkpoint, message):
                path, sha256, size = message["path"], message["sha256"], message.get("size", 0)
                yield CheckpointSaved(trial.trial, attempt, message["step"], path, sha256, size)
            case "began" if starting is not None:
                for reason in message.get("refused", ()):
                    yield CheckpointRefused(trial.trial, attempt, reason)
            case "attempt_failed" if not trial.ended and all(each.attempt < attempt for each in trial.failures):
                yield AttemptFailed(trial.trial, attempt, message["failure"], message["message"], message["traceback"])
            case "ended" if not trial.ended and trial.status != "paused" and not _was_let_go(message):
                status, step, reason = message["status"], message["step"], message.get("reason", "")
                seconds, weights = message["seconds"], message["weights"]
                yield TrialEnded(trial.trial, attempt, status, step, seconds, weights, reason)


def _was_let_go(message: Message) -> bool:
    """Whether an attempt only stopped because its driver is leaving: the trial has not ended. What the scheduler
    stopped was recorded as ended when it was decided, and what stopped by itself says why."""
    return bool(message["status"] == "stopped" and not message.get("reason"))


def _repeats(trial: TrialState, message: Message) -> bool:
    if trial.status == "paused":
        return True
    last = trial.reports[-1] if trial.reports else None
    return last is not None and last.attempt == message["attempt"] and last.step >= message["step"]


def _is_saved(last: CheckpointSaved | None, message: Message) -> bool:
    if last is None or last.attempt != message["attempt"] or last.step < message["step"]:
        return False
    return last.step > message["step"] or last.sha256 == message["sha256"]
