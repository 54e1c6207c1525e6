"""Messages as a gang sends them, with what a test does not care about filled in."""

from __future__ import annotations

from expflow.events import Status
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


def started(trial: str, attempt: int = 1, gang: str = "gang-1") -> Message:
    return AttemptStartedMessage(trial, attempt, gang)


def began(trial: str, step: int, *refused: str, attempt: int = 1) -> Message:
    return AttemptBeganMessage(trial, attempt, step, refused)


def report(trial: str, step: int, value: float = 0.5, attempt: int = 1) -> Message:
    return ReportMessage(trial, attempt, step, {"val/top1": value}, step / 4)


def saved(trial: str, step: int, attempt: int = 1) -> Message:
    return CheckpointSavedMessage(trial, attempt, step, f"c{step}", str(step))


def artifact(trial: str, step: int, name: str = "confusion", attempt: int = 1) -> Message:
    return ArtifactWrittenMessage(trial, attempt, step, name, f"a{step}.png", "image", str(step), 7)


def measured(trial: str, step: int, value: float = 0.5, attempt: int = 1) -> Message:
    return SystemMeasuredMessage(trial, attempt, step, {"system/wait_share": value})


def ended(trial: str, status: Status = "done", step: int = 4, attempt: int = 1) -> Message:
    return TrialEndedMessage(trial, attempt, status, step, 3.0, "w")


def lost(trial: str, failure: str = "worker_lost", text: str = "gone", traceback: str = "") -> Message:
    """An attempt that failed and may be tried again."""
    return AttemptFailedMessage(trial, 1, failure, text, traceback)


def failed(trial: str, failure: str = "code", text: str = "boom", traceback: str = "") -> list[Message]:
    """An attempt that failed and is not tried again."""
    return [lost(trial, failure, text, traceback), ended(trial, "failed", step=0)]
