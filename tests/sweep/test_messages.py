"""Messages of a trial: how they are made, and that they cross to another process as they were."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any, get_args

import cloudpickle
import numpy as np
import pytest

from expflow.errors import Diverged, ExpflowError, StorageUnwritable
from expflow.events import Report
from expflow.sweep.messages import (
    AttemptBeganMessage,
    AttemptFailedMessage,
    BatchTriedMessage,
    CheckpointSavedMessage,
    Message,
    ReportMessage,
    TrialEndedMessage,
    from_wire,
    notice_message,
    to_wire,
)
from expflow.training.contract import BatchFinding, Began, Outcome, Saved
from tests.sweep.gang_messages import artifact, began, ended, lost, measured, report, saved, started

ALL = [
    started("t"),
    began("t", 3, "damaged"),
    BatchTriedMessage.from_finding("t", 1, BatchFinding(("val/top1",), "no", alone=True)),
    report("t", 4),
    saved("t", 4),
    artifact("t", 4),
    measured("t", 4),
    lost("t", traceback="Traceback"),
    ended("t"),
]


def test_every_kind_crosses_to_another_process_as_it_was() -> None:
    assert {type(message) for message in ALL} == set(get_args(Message))
    wire = pickle.loads(cloudpickle.dumps(to_wire(ALL)))
    assert from_wire(wire) == ALL


def test_between_processes_a_message_is_plain_data() -> None:
    """An object of a class would have cloudpickle call a Python function for it."""

    def is_plain(value: Any) -> bool:
        if isinstance(value, tuple | list):
            return all(is_plain(entry) for entry in value)
        if isinstance(value, dict):
            return all(is_plain(entry) for entry in (*value, *value.values()))
        return type(value) in (str, int, float, bool)

    assert is_plain(to_wire(ALL))


def test_2000_messages_of_ten_metrics_take_little_of_a_second() -> None:
    metrics = {f"val/metric{number}": number / 7 for number in range(10)}
    messages = [ReportMessage("trial", 1, step, dict(metrics), step / 2000) for step in range(2000)]
    began_at = time.process_time()
    received = from_wire(pickle.loads(cloudpickle.dumps(to_wire(messages))))
    assert time.process_time() - began_at < 0.2  # 0.01 s on a core of 2024
    assert received == messages


def test_a_report_has_plain_numbers() -> None:
    message = ReportMessage.from_report("t", 2, Report(5, {"val/top1": np.float32(0.5)}, 0.25))
    assert message == ReportMessage("t", 2, 5, {"val/top1": 0.5}, 0.25)
    assert type(message.metrics["val/top1"]) is float


@pytest.mark.parametrize("experiment", [Path("/runs/exp"), None])
def test_paths_are_relative_to_the_experiment(experiment: Path | None) -> None:
    path = Path("/runs/exp/trials/a/checkpoints/step-4")
    message = notice_message("t", 1, Saved(4, path, "abc", 7), experiment)
    where = "trials/a/checkpoints/step-4" if experiment else str(path)
    assert message == CheckpointSavedMessage("t", 1, 4, where, "abc", 7)
    assert notice_message("t", 1, Began(4, path, ("damaged",)), experiment) == AttemptBeganMessage(
        "t", 1, 4, ("damaged",)
    )


def test_a_failure_has_its_class_and_a_traceback_where_that_helps() -> None:
    def raised(error: Exception) -> AttemptFailedMessage:
        try:
            raise error
        except (ExpflowError, ValueError) as caught:
            return AttemptFailedMessage.from_error("t", 1, caught, seconds=2.0)

    assert raised(Diverged("loss is nan")) == AttemptFailedMessage("t", 1, "diverged", "loss is nan", seconds=2.0)
    bug = raised(ValueError("no"))
    assert (bug.failure, bug.message) == ("code", "ValueError: no")
    assert bug.traceback.startswith("Traceback")
    assert "raise error" in bug.traceback
    assert raised(StorageUnwritable("full")).message == "full"


def test_how_a_trial_ends() -> None:
    done = TrialEndedMessage.from_outcome("t", 1, Outcome(8, False, "abc", "early"), seconds=2.0)
    assert done == TrialEndedMessage("t", 1, "done", 8, 2.0, "abc", "early")
    assert TrialEndedMessage.from_outcome("t", 1, Outcome(8, True), seconds=2.0).status == "stopped"
    failed = AttemptFailedMessage("t", 3, "code", "boom", seconds=2.0)
    assert TrialEndedMessage.from_failure(failed, 5) == TrialEndedMessage("t", 3, "failed", 5, 2.0)
