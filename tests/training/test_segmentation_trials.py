"""Segmentation in trials: two ranks give what one gives, and a cut training goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.errors import Preempted
from expflow.events import Report
from expflow.training import Attempt, World
from expflow.training.checkpoints import list_checkpoints
from expflow.training.evaluation.augmented_views import AugmentedViews
from expflow.training.evaluation.evaluator import open_evaluator
from expflow.training.evaluation.overlaps import load_overlaps, overlap_metric
from tests.training.attempts import train_attempt
from tests.training.comparing import comparable

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

RECIPE = """
data: {name: digit_scenes, train_scenes: 45, val_scenes: 21, test_scenes: 1, side: 16, batch_size: 8}
model: {name: unet, width: 2, depth: 2, norm: layer}
task: segmentation
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
schedule: one_cycle
trainer: {epochs: 2, accumulate: 2}
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """45 scenes in batches of 8: the last batch, of 5, does not divide by two ranks, nor do the 21 of val."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "scenes.yaml").write_text(RECIPE)
    recipe = load(folder / "scenes.yaml").experiment.recipe
    return recipe, prepare(recipe.data, cache=folder / "cache").root  # type: ignore[arg-type]


def train(attempt: Attempt, ranks: int = 1, leave_at: int | None = None) -> tuple[Any, list[Report]]:
    outcome, reports, _ = train_attempt(attempt, ranks, leave_at)
    return outcome, reports


def test_two_ranks_train_and_measure_what_one_does(scenes: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, root = scenes
    _, one = train(Attempt(recipe, 0, root, tmp_path / "one"))
    _, two = train(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)
    assert [report.step for report in one] == [report.step for report in two]
    for single, double in zip(one, two, strict=True):
        assert single.metrics.keys() == double.metrics.keys()
        for name in ("train/loss", "val/loss", "val/miou", "val/pixel_accuracy"):
            assert single.metrics[name] == pytest.approx(double.metrics[name], rel=1e-3), name
    first, second = (load_overlaps(tmp_path / name / "overlaps-val.npz") for name in ("one", "two"))
    assert np.array_equal(first.ids, np.arange(21))
    assert np.array_equal(second.ids, np.arange(21))
    assert np.array_equal(first.counts[:, 1], second.counts[:, 1]), "the same images' true pixels, each once"
    measured = overlap_metric(second.counts.sum(axis=0), "miou")
    assert measured is not None
    assert float(measured) == pytest.approx(two[-1].metrics["val/miou"], abs=1e-12)


@pytest.mark.parametrize("question", [1, 3, 5, 9])
def test_a_trial_that_was_cut_is_the_trial_that_was_not(
    scenes: tuple[Recipe, Path], tmp_path: Path, question: int
) -> None:
    recipe, root = scenes
    whole, expected = train(Attempt(recipe, 0, root))
    with pytest.raises(Preempted):
        train(Attempt(recipe, 0, root, tmp_path), leave_at=question)
    again, reports = train(Attempt(recipe, 0, root, tmp_path))
    assert again.weights == whole.weights
    assert comparable(reports[-1].metrics) == comparable(expected[-1].metrics)


def test_views_of_validation_images_are_measured_by_the_same_sums(scenes: tuple[Recipe, Path], tmp_path: Path) -> None:
    """One view, the image itself, gives what the trial reported; mirrored images count with it."""
    recipe, root = scenes
    attempt = Attempt(recipe, 0, root, tmp_path / "trial")
    _, reports = train(attempt)
    with open_evaluator(Attempt(recipe, 0, root), World()) as evaluator:
        weights = evaluator.load_weights(list_checkpoints(tmp_path / "trial" / "checkpoints")[0]).weights
        for views in (AugmentedViews(), AugmentedViews(window=16)):
            evaluator.views = views
            measured = evaluator.evaluate(weights, "val").metrics
            for name in ("val/miou", "val/pixel_accuracy", "val/loss"):
                assert measured[name] == pytest.approx(reports[-1].metrics[name], rel=1e-5)
        evaluator.views = AugmentedViews(flip=True, scales=(1, 1.5), window=12)
        augmented = evaluator.evaluate(weights, "val").metrics
        assert augmented.keys() == measured.keys()
        assert augmented["val/loss"] != measured["val/loss"]
        evaluator.views = None
        assert evaluator.evaluate(weights, "val").metrics["val/miou"] == pytest.approx(measured["val/miou"])
