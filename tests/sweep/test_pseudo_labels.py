"""Labels of the train split from a classifier of a finished sweep: looked up once, in the data key, kept, compared."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from expflow.errors import ExperimentInvalid, LedgerMismatch, UserError, WeightsMissing
from expflow.ledger import load_state
from expflow.sweep.finished_trial import load_finished_trial
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import Plan, make_plan
from expflow.sweep.result_location import find_results
from expflow.sweep.trial_check import check_trial
from expflow.sweep.trial_expansion import planned_trials
from expflow.training import Attempt, World, run_trial
from expflow.training.trial_data import open_trial_data
from tests.finished_sweeps import copy_of_sweeps, finish_sweeps
from tests.rank_forks import run_forked_ranks

TEACHER = """
data: {name: digits, batch_size: 50, limit: 150}
model: {name: resnet, layout: cifar, depth: 8, width: 4}
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 2}
sweep: {space: {optimizer.lr: [0.01, 0.2]}, seeds: 1}
"""
STUDENT = """
data: {name: digits, batch_size: 50, limit: 300, labels_from: teacher/best}
model: {name: mlp}
task: classification
optimizer: {name: sgd, lr: 0.05}
trainer: {epochs: 2}
"""
SWEEP = STUDENT + 'sweep: {space: {data.labels_from: ["", teacher/best]}, seeds: 1}\n'

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("rank_forks")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished sweep ``teacher``, and a student of it beside one with true labels."""
    return finish_sweeps(tmp_path_factory.mktemp("labels"), {"teacher": TEACHER, "student": SWEEP})


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one's own."""
    return copy_of_sweeps(finished, tmp_path, monkeypatch)


def plan(folder: Path, text: str = STUDENT, name: str = "other") -> Plan:
    (folder / f"{name}.yaml").write_text(text)
    return make_plan(folder / f"{name}.yaml")


def attempt_of(folder: Path, text: str = STUDENT) -> Attempt:
    [trial] = planned_trials(plan(folder, text))
    assert trial.data is not None
    return Attempt(trial.recipe, 0, Path(trial.data.root), labeller=trial.labeller)


def labels_by_sample(loader: object) -> dict[int, int]:
    return {
        int(sample): int(label)
        for batch in loader  # type: ignore[attr-defined]
        for sample, label in zip(batch["index"], batch["label"], strict=True)
    }


def test_train_has_the_classes_that_the_classifier_gives_and_val_its_own(place: Path) -> None:
    with_them, without = (
        open_trial_data(attempt_of(place, text), World())
        for text in (STUDENT, STUDENT.replace(", labels_from: teacher/best", ""))
    )
    results = find_results("teacher/best", place / "runs")
    best = max(results.state.plan_trials(), key=lambda trial: trial.metrics["val/top1"])
    teacher = load_finished_trial(results, best)
    given, truth = labels_by_sample(with_them.train), labels_by_sample(without.train)
    with teacher.open_evaluator() as evaluator, torch.no_grad():
        teacher.load_weights(evaluator)
        task = evaluator.task.eval()
        expected = {
            int(sample): int(scores.argmax())
            for batch in without.train_in_order  # type: ignore[union-attr]
            for sample, scores in zip(batch["index"], task(batch["image"]), strict=True)
        }
    assert given == expected
    assert 0.2 < np.mean([given[sample] == truth[sample] for sample in truth]) < 1, "a teacher that is often right"
    assert list(given) == list(truth), "the order is that of the true labels"
    assert labels_by_sample(with_them.train_in_order) == expected
    assert labels_by_sample(with_them.val) == labels_by_sample(without.val)


def test_the_trial_says_how_many_of_them_are_right(place: Path) -> None:
    state = load_state(place / "runs" / "student")
    student = next(trial for trial in state.plan_trials() if trial.values["data.labels_from"])
    [file] = (place / "runs" / "student").glob(f"**/*{student.trial}*/artifacts/pseudo-labels/*.csv")
    *classes, whole = csv.DictReader(file.read_text().splitlines())
    given = labels_by_sample(open_trial_data(attempt_of(place), World()).train)
    truth = labels_by_sample(
        open_trial_data(attempt_of(place, STUDENT.replace(", labels_from: teacher/best", "")), World()).train
    )
    right = sum(given[sample] == truth[sample] for sample in truth)
    assert (whole["class"], whole["labelled"], whole["right"]) == ("all", "300", str(right))
    assert float(whole["share right"]) == pytest.approx(right / 300, abs=1e-4)
    assert sum(int(row["right"]) for row in classes) == right
    assert sum(int(row["truly of it"]) for row in classes) == sum(int(row["labelled"]) for row in classes) == 300
    assert not list((place / "runs" / "teacher").glob("*/artifacts/pseudo-labels"))


def test_the_classifiers_digest_is_part_of_the_data_key(place: Path) -> None:
    state = load_state(place / "runs" / "teacher")
    best, other = sorted(state.plan_trials(), key=lambda trial: -trial.metrics["val/top1"])
    keys = []
    for name in ("", "teacher/best", f"teacher/{best.trial}", f"teacher/{other.trial}"):
        [trial] = planned_trials(plan(place, STUDENT.replace("teacher/best", name or '""')))
        assert trial.data is not None
        keys.append(trial.data.key)
    assert keys[0] != keys[1] == keys[2] != keys[3] != keys[0]
    [plain] = planned_trials(plan(place, STUDENT.replace(", labels_from: teacher/best", "")))
    assert plain.data is not None
    assert plain.data.key == keys[0]
    known = load_state(place / "runs" / "student").header.weights["labels:teacher/best"]  # type: ignore[union-attr]
    assert known["trial"] == best.trial


def test_classes_are_balanced_by_the_labels_that_are_trained_on(place: Path) -> None:
    text = STUDENT.replace("labels_from", "sampling: balanced, labels_from")
    batches = list(open_trial_data(attempt_of(place, text), World()).train)  # type: ignore[arg-type]
    counts = np.bincount(np.concatenate([batch["label"].numpy() for batch in batches]), minlength=10)
    assert counts.max() - counts[counts > 0].min() <= 1


def test_ranks_and_a_cut_train_what_one_uncut_rank_does(place: Path, tmp_path: Path) -> None:
    attempt = attempt_of(place)
    shares = [labels_by_sample(open_trial_data(attempt, World(rank, 2)).train) for rank in (0, 1)]
    assert shares[0] | shares[1] == labels_by_sample(open_trial_data(attempt, World()).train)
    reports = []
    run_forked_ranks(
        attempt,
        World(ranks=2),
        lambda report: reports.append(report) or True,
        on_notice=lambda notice: None,
        leave=lambda: False,
    )
    whole = []
    uncut = run_trial(attempt, World(), lambda report: whole.append(report) or True)
    assert reports[-1].metrics["val/loss"] == pytest.approx(whole[-1].metrics["val/loss"], rel=1e-3)
    folder = tmp_path / "trial"
    cut = Attempt(attempt.recipe, 0, attempt.data_root, folder, labeller=attempt.labeller)
    run_trial(cut, World(), lambda report: report.metrics.get("progress/epoch", 0) < 1)
    resumed = run_trial(
        Attempt(attempt.recipe, 0, attempt.data_root, folder, number=2, labeller=attempt.labeller),
        World(),
        lambda report: True,
    )
    assert resumed.weights == uncut.weights


def test_what_continues_uses_the_copy_and_another_classifier_is_refused(place: Path) -> None:
    shutil.rmtree(place / "runs" / "teacher")
    before = load_state(place / "runs" / "student")
    result = run_in_process(plan(place, SWEEP.replace("seeds: 1", "seeds: 2"), "student"))
    assert result.ran == 2
    assert before.trials.keys() < result.state.trials.keys()
    trial = next(trial for trial in result.state.plan_trials() if trial.values["data.labels_from"])
    assert check_trial(find_results(f"student/{trial.trial}", place / "runs")).equal
    shutil.rmtree(place / "runs" / "student" / "weights")
    (place / "teacher.yaml").write_text(TEACHER.replace("epochs: 2", "epochs: 1"))
    run_in_process(make_plan(place / "teacher.yaml"))
    with pytest.raises(LedgerMismatch, match=r"was trained on labels of teacher/.*whose copy is gone"):
        plan(place, SWEEP, "student")
    with pytest.raises(UserError, match="was trained on labels of teacher/best, whose copy is not there"):
        load_finished_trial(find_results("student/best", place / "runs"), trial)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (STUDENT.replace("teacher/best", "nowhere/best"), r"other.yaml:2:\d+: data.labels_from"),
        (STUDENT.replace("teacher/best", "teacher"), "expected a trial whose network gives the labels"),
        (STUDENT.replace("limit: 300", "image_size: 16"), r"takes images of shape \(1, 8, 8\), and these have"),
        (STUDENT.replace("limit: 300", "split_seed: 1"), r"another split of the same images \(data.split_seed was 0\)"),
        (STUDENT.replace("limit: 300", "search_val: 0.2"), r"another split of the same images \(data.search_val"),
        (STUDENT.replace("epochs: 2", "epochs: 2, fit_on: train+val"), "labels the train split alone"),
        (
            STUDENT.replace("{name: mlp}", "{name: autoencoder, backbone: resnet, depth: 8, layout: cifar}").replace(
                "task: classification", "task: autoencoder"
            ),
            "the task autoencoder does not learn these",
        ),
    ],
)
def test_what_cannot_label_is_refused_with_its_place(place: Path, text: str, reason: str) -> None:
    with pytest.raises(ExperimentInvalid, match=reason):
        list(planned_trials(plan(place, text)))


def test_a_classifier_of_other_classes_or_one_that_saw_val_is_refused(place: Path) -> None:
    trained = TEACHER.split("sweep:")[0].replace("limit: 150", "limit: 100")
    run_in_process(plan(place, trained.replace("epochs: 2", "epochs: 1, fit_on: train+val"), "seen"))
    [seen] = load_state(place / "runs" / "seen").plan_trials()
    with pytest.raises(ExperimentInvalid, match="was trained on the val images of these data, too"):
        list(planned_trials(plan(place, STUDENT.replace("teacher/best", f"seen/{seen.trial}"))))
    for number, name in enumerate(("cats", "dogs") * 10):
        (place / "animals" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(place / "animals" / name / f"{number}.png")
    animals = STUDENT.replace("digits, batch_size: 50, limit: 300", "folder, path: animals, batch_size: 4")
    with pytest.raises(ExperimentInvalid, match=r"other classes apart than these data have: .*, and here cats, dogs"):
        list(planned_trials(plan(place, animals)))
    searched = trained.replace("limit: 100", "limit: 100, search_val: 0.2")
    run_in_process(plan(place, searched.replace("epochs: 2", "epochs: 1"), "searched"))
    assert list(planned_trials(plan(place, STUDENT.replace("teacher/best", "searched/best")))), "a part of train"


def test_a_trial_that_was_not_given_its_classifier_says_so(place: Path) -> None:
    attempt = attempt_of(place)
    with pytest.raises(WeightsMissing, match=r"data\.labels_from: teacher/best was not looked up"):
        run_trial(Attempt(attempt.recipe, 0, attempt.data_root), World(), lambda report: True)
