"""Which messages are events of the ledger, and which repeat what is known."""

from __future__ import annotations

from pathlib import Path

from expflow.events import ArtifactWritten, SystemMeasured
from tests.sweep.gang_messages import artifact, began, ended, measured, report, started
from tests.sweep.stage import Stage
from tests.sweep.test_conductor import begin, experiment


def test_an_artifact_is_recorded_once_for_each_step(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    messages = [began(trial, 0), report(trial, 1), artifact(trial, 1), artifact(trial, 1, "errors"), artifact(trial, 2)]
    conductor.take(messages)
    conductor.take(messages)  # the trainable that carried them was lost
    conductor.take([started(trial, 2), artifact(trial, 1), artifact(trial, 2, attempt=2), ended(trial, attempt=2)])
    written = [(event.attempt, event.step, event.name) for event in stage.ledger.events(ArtifactWritten)]
    assert written == [(1, 1, "confusion"), (1, 1, "errors"), (1, 2, "confusion"), (2, 2, "confusion")]


def test_a_measurement_is_recorded_once_for_each_step(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    messages = [began(trial, 0), measured(trial, 1, 0.25), artifact(trial, 1), measured(trial, 2)]
    conductor.take(messages)
    conductor.take(messages)  # the trainable that carried them was lost
    conductor.take([started(trial, 2), measured(trial, 1), measured(trial, 2, attempt=2), ended(trial, attempt=2)])
    written = [(event.attempt, event.step) for event in stage.ledger.events(SystemMeasured)]
    assert written == [(1, 1), (1, 2), (2, 2)]
    assert stage.ledger.events(SystemMeasured)[0].metrics == {"system/wait_share": 0.25}
