"""Trials of several classes and of numbers: two ranks measure what one does, and a cut training goes on bit for bit."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.errors import Preempted
from expflow.training import Attempt
from expflow.training.evaluation.label_scores import class_average_precisions, load_label_scores
from tests.training.comparing import comparable
from tests.training.test_segmentation_trials import train

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("rank_forks")]

MULTILABEL = """
data: {name: digit_scenes, truth: labels, train_scenes: 45, val_scenes: 21, test_scenes: 1, side: 16, batch_size: 8}
model: {name: resnet, depth: 8, width: 2, norm: layer}
task: multilabel
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
trainer: {epochs: 2, accumulate: 2}
"""
REGRESSION = """
data: {name: noisy_curve, train_points: 13, val_points: 21, batch_size: 4}
model: {name: polynomial, degree: 3}
task: {name: regression, penalty: l2}
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
trainer: {epochs: 2}
"""


def prepared(text: str, folder: Path) -> tuple[Recipe, Path]:
    (folder / "exp.yaml").write_text(text)
    recipe = load(folder / "exp.yaml").experiment.recipe
    return recipe, prepare(recipe.data, cache=folder / "cache").root  # type: ignore[arg-type]


def test_two_ranks_rank_all_samples_as_one_does(tmp_path: Path) -> None:
    recipe, root = prepared(MULTILABEL, tmp_path)
    _, one = train(Attempt(recipe, 0, root))
    _, two = train(Attempt(recipe, 0, root), ranks=2)
    for single, double in zip(one, two, strict=True):
        for name in ("train/loss", "val/loss", "val/map"):
            assert single.metrics[name] == pytest.approx(double.metrics[name], rel=2e-3), name


@pytest.mark.parametrize("text", [MULTILABEL, REGRESSION], ids=["multilabel", "regression"])
def test_a_trial_that_was_cut_is_the_trial_that_was_not(text: str, tmp_path: Path) -> None:
    recipe, root = prepared(text, tmp_path)
    whole, expected = train(Attempt(recipe, 0, root))
    with pytest.raises(Preempted):
        train(Attempt(recipe, 0, root, tmp_path / "trial"), leave_at=4)
    again, reports = train(Attempt(recipe, 0, root, tmp_path / "trial"))
    assert again.weights == whole.weights
    assert comparable(reports[-1].metrics) == comparable(expected[-1].metrics)


@pytest.mark.parametrize("ranks", [1, 2])
def test_scores_of_each_image_are_kept_with_a_table_of_classes(ranks: int, tmp_path: Path) -> None:
    recipe, root = prepared(MULTILABEL, tmp_path)
    _, reports = train(Attempt(recipe, 0, root, tmp_path / "trial"), ranks=ranks)
    kept = load_label_scores(tmp_path / "trial" / "label-scores-val.npz")
    assert len(kept) == 21
    of_classes = class_average_precisions(kept)[0]
    assert np.nanmean(of_classes) == pytest.approx(reports[-1].metrics["val/map"], abs=1e-6)
    [table] = (tmp_path / "trial").glob("artifacts/ap-val/*.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["class"] for row in rows] == [str(digit) for digit in range(10)]
    assert [row["ap"] for row in rows] == ["" if np.isnan(ap) else f"{ap:.6f}" for ap in of_classes]
    assert all(int(row["yes"]) + int(row["no"]) + int(row["not known"]) == 21 for row in rows)
