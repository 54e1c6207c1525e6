"""Checkpoints of ended trials are deleted by ``sweep.checkpoints``: recorded first, and never what may be needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from expflow.events import CheckpointPruned, CheckpointSaved, TrialForked
from expflow.ledger.writer import DURABLE
from tests.sweep.stage import Killed, Stage
from tests.sweep.test_contract import SPACE, check_every_kill, experiment

SAVING = """
task: {{name: scripted, script: [{{report: {{val/top1: curve}}}}, {{save: true}}, {{report: {{val/top1: curve}}}}]}}
sweep:
  space: {{task.value: [0.2, 0.9, 0.5]}}
  metric: val/top1
  checkpoints: {{{keys}}}
"""


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def on_disk(stage: Stage) -> dict[float, list[str]]:
    """Searched value -> names of its trial's checkpoints."""
    plan, names = stage.plan(), dict[float, list[str]]()
    for trial in stage.state().trials.values():
        (folder,) = (plan.folder / "trials").glob(f"*{trial.trial}*")
        names[trial.values["task.value"]] = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    return names


def steps(stage: Stage) -> dict[float, list[int]]:
    return {value: [int(name.split("-")[1]) for name in names] for value, names in on_disk(stage).items()}


def test_without_its_keys_everything_stays(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SAVING.format(keys=""))
    stage.run()
    assert steps(stage) == {0.2: [1, 2], 0.9: [1, 2], 0.5: [1, 2]}
    assert stage.ledger.events(CheckpointPruned) == []


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        ("best: 1", {0.2: [], 0.9: [1, 2], 0.5: []}),
        ("per_trial: 1", {0.2: [2], 0.9: [2], 0.5: [2]}),
        ("best: 2, per_trial: 1", {0.2: [], 0.9: [2], 0.5: [2]}),
        ("disk: 1 B", {0.2: [], 0.9: [2], 0.5: []}),
    ],
)
def test_what_is_left_when_the_sweep_is_over(tmp_path: Path, keys: str, left: dict[float, list[int]]) -> None:
    stage = Stage(tmp_path, SAVING.format(keys=keys))
    conductor = stage.run()
    assert steps(stage) == left
    pruned = {event.path for event in stage.ledger.events(CheckpointPruned)}
    saved = {event.path for event in stage.ledger.events(CheckpointSaved)}
    assert saved - pruned == {path for path in saved if (stage.plan().folder / path).is_dir()}
    assert (conductor.excess_bytes > 0) == ("disk" in keys)


def test_a_deletion_is_on_the_disk_before_the_checkpoint_goes(tmp_path: Path) -> None:
    assert CheckpointPruned in DURABLE
    stage = Stage(tmp_path, SAVING.format(keys="best: 1"))
    stage.run()
    place = next(index for index, (_, body) in enumerate(stage.ledger.read()) if isinstance(body, CheckpointPruned))
    (tmp_path / "killed").mkdir()
    killed = Stage(tmp_path / "killed", SAVING.format(keys="best: 1"))
    with pytest.raises(Killed):
        killed.run(kill_at=place)
    assert all(on_disk(killed)[value] for value in (0.2, 0.9))  # the event was not written, so nothing is gone
    killed.run()
    assert steps(killed) == {0.2: [], 0.9: [1, 2], 0.5: []}


def test_a_key_that_is_added_later_holds_though_nothing_is_left_to_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SAVING.format(keys=""))
    stage.run()
    stage.write(SAVING.format(keys="best: 1"))
    stage.run()
    assert steps(stage) == {0.2: [], 0.9: [1, 2], 0.5: []}


def test_what_a_killed_driver_had_half_deleted_goes_with_the_next(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SAVING.format(keys="per_trial: 1"))
    stage.run()
    (trial, *_) = stage.state().trials.values()
    (folder,) = (stage.plan().folder / "trials").glob(f"*{trial.trial}*")
    (folder / "checkpoints" / ".step-000000001-77.gone").mkdir()
    stage.open()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000002"]


def test_longer_training_goes_on_from_what_the_shorter_one_left(tmp_path: Path) -> None:
    """A plan with another budget has begun no trial yet: nothing of the old one is deleted before it goes on."""
    text = SAVING.format(keys="")
    stage = Stage(tmp_path, text)
    stage.run()
    longer = SAVING.format(keys="best: 1") + "trainer: {epochs: 2}\n"
    stage.write(longer)
    stage.open()
    assert steps(stage) == {0.2: [1, 2], 0.9: [1, 2], 0.5: [1, 2]}


def test_a_failed_trial_that_is_tried_again_keeps_its_checkpoint(tmp_path: Path) -> None:
    failing = SAVING.format(keys="per_trial: 1, best: 1").replace("{save: true}", "{save: true}, {raise: boom}")
    stage = Stage(tmp_path, failing)
    stage.run()
    assert steps(stage) == {0.2: [], 0.9: [], 0.5: []}  # none is done, so none is among the best
    kept = failing.replace("per_trial: 1, best: 1", "")
    (tmp_path / "kept").mkdir()
    stage = Stage(tmp_path / "kept", kept)
    stage.run()
    stage.write(failing)
    stage.open(retry_failed=True)
    assert steps(stage) == {0.2: [1], 0.9: [1], 0.5: [1]}


@pytest.mark.parametrize(
    ("scheduler", "more", "slots"),
    [("{name: pbt, resample: 0.5}", "", 2), ("{name: successive_halving, reduction: 2}", "seeds: 2", 2)],
)
def test_a_sweep_with_pauses_and_forks_runs_as_without_the_keys(
    tmp_path: Path, scheduler: str, more: str, slots: int
) -> None:
    folders = tmp_path / "plain", tmp_path / "pruned"
    for folder in folders:
        folder.mkdir()
    text = experiment("{name: random, trials: 4}", SPACE, scheduler, more, epochs=4)
    keys = "\n  checkpoints: {best: 1, per_trial: 1, disk: 1 B}\n"
    plain = Stage(folders[0], text, slots)
    plain.run()
    assert check_every_kill(folders[1], text.rstrip() + keys, slots, stride=3) == plain.story()
    assert bool(plain.ledger.events(TrialForked)) == ("pbt" in scheduler)
