"""The bag of visual words as a trial: fitted once, its arrays the checkpoint, the same on two ranks."""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.errors import ExperimentInvalid, Preempted, UserError
from expflow.tasks import build_task, cost
from expflow.tasks.bovw import BovwTask
from expflow.training import Attempt, Began, Saved, World
from expflow.training.evaluation.evaluator import open_evaluator
from tests.tasks.test_task_contract import IMAGES
from tests.training.attempts import train_attempt
from tests.training.comparing import comparable

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

DIGITS = "data: {name: digits, limit: 205, batch_size: 32}\n"
SMALL = "patch: 4, stride: 2, words: 16"
FORMS = {
    "histogram": f"{SMALL}, pyramid: 1",
    "fisher": "patch: 3, stride: 1, words: 4, encoding: fisher",
    "sift": f"descriptor: sift, {SMALL}",
}


def recipe_of(arguments: str, folder: Path, more: str = "") -> Recipe:
    file = folder / "trial.yaml"
    file.write_text(f"{DIGITS}task: {{name: bovw, {arguments}}}\n{more}")
    return load(file).experiment.recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return prepare(recipe_of(SMALL, folder).data, cache=folder / "cache").root  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_it_is_fitted_once_and_learns(form: str, root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(FORMS[form], tmp_path)
    outcome, reports, notices = train_attempt(Attempt(recipe, 0, root, tmp_path / "trial"))
    (report,) = reports
    assert (report.step, report.progress, outcome.step) == (1, 1.0, 1)
    assert {"val/loss", "val/top1", "val/top5", "fit/loss", "fit/top1", "fit/top5"} < set(report.metrics)
    assert report.metrics["fit/top1"] > 0.4  # guessing is right in a tenth
    assert report.metrics["val/top1"] > 0.3
    (saved,) = [notice for notice in notices if isinstance(notice, Saved)]
    assert saved.step == 1
    with open_evaluator(Attempt(recipe, 0, root), World()) as evaluator:
        measured = evaluator.evaluate(evaluator.load_weights(saved.path).weights, "val")
    assert measured.metrics["val/top1"] == report.metrics["val/top1"]
    assert measured.predictions is not None
    hits = measured.predictions.top[:, 0] == measured.predictions.labels
    assert hits.mean() == pytest.approx(report.metrics["val/top1"])
    assert np.nanmean(measured.predictions.losses) == pytest.approx(report.metrics["val/loss"], rel=1e-5)


def test_two_ranks_fit_and_measure_what_one_does(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(FORMS["histogram"], tmp_path)
    one, (single,), _ = train_attempt(Attempt(recipe, 0, root, tmp_path / "one"))
    two, (double,), _ = train_attempt(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)
    assert two.weights == one.weights
    assert comparable(double.metrics) == pytest.approx(comparable(single.metrics))


def test_seeds_draw_other_words(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(FORMS["histogram"], tmp_path)
    assert train_attempt(Attempt(recipe, 0, root))[0].weights == train_attempt(Attempt(recipe, 0, root))[0].weights
    assert train_attempt(Attempt(recipe, 1, root))[0].weights != train_attempt(Attempt(recipe, 0, root))[0].weights


@pytest.mark.parametrize("question", [0, 3, 10])
def test_a_fit_that_was_left_begins_anew_and_one_that_ended_measures_again(
    root: Path, tmp_path: Path, question: int
) -> None:
    recipe = recipe_of(FORMS["histogram"], tmp_path)
    whole, (expected,), _ = train_attempt(Attempt(recipe, 0, root, tmp_path / "whole"))
    with pytest.raises(Preempted):
        train_attempt(Attempt(recipe, 0, root, tmp_path / "cut"), leave_at=question)
    again, (report,), notices = train_attempt(Attempt(recipe, 0, root, tmp_path / "cut"))
    assert again.weights == whole.weights
    assert comparable(report.metrics) == comparable(expected.metrics)
    assert notices[0].step == 0
    fitted = Attempt(recipe, 0, root, tmp_path / "whole")
    measured, (the_same,), notices = train_attempt(fitted, leave_at=0)  # nobody asks
    assert isinstance(notices[0], Began)
    assert notices[0].step == 1
    assert not any(isinstance(notice, Saved) for notice in notices)
    assert measured.weights == whole.weights
    assert comparable(the_same.metrics) == comparable(expected.metrics)


def test_its_checkpoint_holds_arrays_alone(root: Path, tmp_path: Path) -> None:
    _, _, notices = train_attempt(Attempt(recipe_of(FORMS["fisher"], tmp_path), 0, root, tmp_path / "trial"))
    path = next(notice.path for notice in notices if isinstance(notice, Saved))
    names = set()
    for file in path.glob("*.pt"):
        with zipfile.ZipFile(file) as archive:
            content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        names |= {value for code, value, _ in pickletools.genops(io.BytesIO(content)) if code.name == "GLOBAL"}
    assert names == {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"}


def test_it_is_built_and_counted_without_memory(tmp_path: Path) -> None:
    recipe = recipe_of("patch: 4, words: 16, pyramid: 1", tmp_path)
    with torch.device("meta"):
        task = build_task(recipe, IMAGES)
    assert isinstance(task, BovwTask)
    words, features = 16, 5 * 16
    assert cost(recipe, IMAGES).params == words * 4 * 4 + 7 * (features + 1)
    assert {parameter.device.type for parameter in task.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("arguments", "more", "key", "words"),
    [
        (SMALL, "model: linear\n", "model", "does not use this slot"),
        (SMALL, "optimizer: sgd\n", "optimizer", "does not use this slot"),
        (f"{SMALL}, points: detected", "", "task.points", "only sift detects points"),
        ("descriptor: hog, patch: 5", "", "task.patch", "an even number"),
        ("words: 100, sampled: 50", "", "task.words", "cannot be made of 50 descriptors"),
        (SMALL, "init: {from: other/best}\n", "init", ""),
    ],
)
def test_misuse_is_refused_with_a_reason(arguments: str, more: str, key: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalid) as raised:
        recipe_of(arguments, tmp_path, more)
    assert any(problem.key.startswith(key) and words in problem.message for problem in raised.value.problems)


def test_random_changes_of_training_images_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text("data: {name: digits, train: {flip: 0.5}}\ntask: bovw\n")
    with pytest.raises(ExperimentInvalid, match="fitted once") as raised:
        load(file)
    assert [problem.key for problem in raised.value.problems] == ["data.train.flip"]


def test_what_only_the_images_show_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.patch is 9, and the images have 8 pixels"):
        build_task(recipe_of("patch: 9", tmp_path), _digits())
    with pytest.raises(UserError, match="at most 500,000 are allowed"):
        build_task(recipe_of("patch: 4, words: 60000, sampled: 60000, pyramid: 2", tmp_path), _digits())
    with pytest.raises(UserError, match="too few for 4000 words"):
        train_attempt(Attempt(recipe_of("patch: 8, words: 4000", tmp_path), 0, root))


def _digits() -> Any:
    from dataclasses import replace

    from expflow.data.dataspec import FieldSpec

    return replace(IMAGES, fields={"image": FieldSpec((1, 8, 8), "uint8"), "label": FieldSpec((), "int64")})


def test_a_class_without_images_is_always_answered_no() -> None:
    task = BovwTask(_digits(), load_spec())
    task._make_classifier(np.eye(16, dtype=np.float32)[:6], np.array([2, 2, 2, 5, 5, 5]), 0)
    assert torch.equal(task.intercepts[[0, 1, 3, 4, 6]], torch.full((5,), -1.0))
    assert (task.coefficients[[0, 1, 3, 4, 6]] == 0).all()
    assert torch.equal(task.coefficients[2], -task.coefficients[5])


def load_spec() -> Any:
    from expflow.tasks.bovw_spec import BovwSpec

    return BovwSpec(name="bovw", patch=4, words=16)
