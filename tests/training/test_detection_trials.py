"""Detection in trials: two ranks measure what one does, and a cut training goes on bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.errors import Preempted, UserError
from expflow.tasks.average_precision import detection_metrics, keypoint_metrics
from expflow.training import Attempt
from expflow.training.evaluation.kept_detections import load_detections
from tests.training.comparing import comparable
from tests.training.test_segmentation_trials import train

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

RECIPE = """
data:
  {{name: digit_scenes, truth: {truth}, train_scenes: 21, val_scenes: 13, test_scenes: 1, side: 32, batch_size: 8,
   train: {{flip: 0.5, pad_and_crop: 4}}}}
model:
  {{name: {model}, backbone: resnet, layout: [1, 1, 1], width: 4, norm: layer, head_width: 8, smallest_stride: 2,
   score_threshold: 0.0, max_detections: 20{more}}}
task: {{name: detection, areas: [60, 120]}}
optimizer: {{name: sgd, lr: 0.01, momentum: 0.9}}
trainer: {{epochs: 2, accumulate: {accumulate}}}
"""


def recipe_in(folder: Path, **keys: str) -> tuple[Recipe, Path]:
    values = {"truth": "boxes", "model": "retinanet", "more": "", "accumulate": "2", **keys}
    (folder / "scenes.yaml").write_text(RECIPE.format(**values))
    recipe = load(folder / "scenes.yaml").experiment.recipe
    return recipe, prepare(recipe.data, cache=folder / "cache").root  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """21 scenes in batches of 8: the last batch, of 5, does not divide by two ranks, nor do the 13 of val."""
    return recipe_in(tmp_path_factory.mktemp("scenes"))


def test_two_ranks_train_and_measure_what_one_does(scenes: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, root = scenes
    _, one = train(Attempt(recipe, 0, root, tmp_path / "one"))
    _, two = train(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)
    assert [report.step for report in one] == [report.step for report in two]
    for single, double in zip(one, two, strict=True):
        assert single.metrics.keys() == double.metrics.keys()
        for name in ("train/loss", "train/classification", "train/bbox_regression"):
            assert single.metrics[name] == pytest.approx(double.metrics[name], rel=1e-3), name
        assert single.metrics["val/ap50"] == pytest.approx(double.metrics["val/ap50"], abs=0.02)
    first, second = (load_detections(tmp_path / name / "detections-val.npz") for name in ("one", "two"))
    assert np.array_equal(second.ids, np.arange(13))
    for name in ("true_boxes", "true_labels", "true_areas", "scales"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), "the same images' truth, each once"
    for name, value in detection_metrics(second, (60.0, 120.0), 20).items():
        assert two[-1].metrics[f"val/{name}"] == pytest.approx(value, abs=1e-12)


POSES = {
    "truth": "keypoints",
    "model": "keypoint_rcnn",
    "more": ", proposals: 20, hidden: 8, keypoint_width: 4, keypoint_layers: 2",
}


def test_two_ranks_measure_the_points_that_one_does(tmp_path: Path) -> None:
    recipe, root = recipe_in(tmp_path, **POSES)
    _, reports = train(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)
    kept = load_detections(tmp_path / "two" / "detections-val.npz")
    assert np.array_equal(kept.ids, np.arange(13))
    for name, value in keypoint_metrics(kept, 20).items():
        assert reports[-1].metrics[f"val/keypoint_{name}"] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("question", "keys"), [(1, {}), (3, {"model": "faster_rcnn", "more": ", proposals: 20, hidden: 8"}), (3, POSES)]
)
def test_a_trial_that_was_cut_is_the_trial_that_was_not(question: int, keys: dict[str, str], tmp_path: Path) -> None:
    """Faster R-CNN draws the regions that it learns from by chance."""
    recipe, root = recipe_in(tmp_path, **keys)
    whole, expected = train(Attempt(recipe, 0, root))
    with pytest.raises(Preempted):
        train(Attempt(recipe, 0, root, tmp_path / "cut"), leave_at=question)
    again, reports = train(Attempt(recipe, 0, root, tmp_path / "cut"))
    assert again.weights == whole.weights
    assert comparable(reports[-1].metrics) == comparable(expected[-1].metrics)


def test_masks_of_objects_are_learned_and_measured(tmp_path: Path) -> None:
    more = ", proposals: 20, hidden: 8, mask_width: 4"
    recipe, root = recipe_in(tmp_path, truth="instances", model="mask_rcnn", more=more, accumulate="1")
    _, reports = train(Attempt(recipe, 0, root, tmp_path / "trial"))
    assert reports[-1].metrics["train/loss_mask"] > 0
    assert 0 <= reports[-1].metrics["val/mask_ap"] <= reports[-1].metrics["val/mask_ap50"] <= 1
    kept = load_detections(tmp_path / "trial" / "detections-val.npz")
    assert kept.mask_ious is not None
    assert 0 < kept.mask_ious.max() <= 1


def test_points_of_objects_are_learned_weighed_measured_and_kept(tmp_path: Path) -> None:
    recipe, root = recipe_in(tmp_path, **{**POSES, "accumulate": "1"})
    _, reports = train(Attempt(recipe, 0, root, tmp_path / "trial"))
    metrics = reports[-1].metrics
    parts = [name for name in metrics if name.startswith("train/loss_") and name != "train/loss"]
    assert metrics["train/loss_keypoint"] > 0
    assert metrics["train/loss"] == pytest.approx(sum(metrics[name] for name in parts), rel=1e-5)
    assert 0 <= metrics["val/keypoint_ap"] <= metrics["val/keypoint_ap50"] <= 1
    assert 0 <= metrics["val/keypoint_ar"] <= 1
    kept = load_detections(tmp_path / "trial" / "detections-val.npz")
    assert kept.points is not None
    assert kept.true_points is not None
    assert kept.point_similarities is not None
    assert 0 < kept.point_similarities.max() <= 1
    assert kept.points.shape[2:] == kept.true_points.shape[2:] == (4, 3)
    weighed = recipe.model_copy(
        update={"task": recipe.task.model_copy(update={"loss_weights": {"loss_keypoint": 0.0}})}
    )
    _, without = train(Attempt(weighed, 0, root, tmp_path / "weighed"))
    rest = sum(without[-1].metrics[name] for name in parts if name != "train/loss_keypoint")
    assert without[-1].metrics["train/loss"] == pytest.approx(rest, rel=1e-5)


def test_points_that_nobody_knows_are_asked_for_by_name(tmp_path: Path) -> None:
    recipe, root = recipe_in(tmp_path, **{**POSES, "truth": "boxes"})
    with pytest.raises(UserError, match=r"the network learns points of objects, .* no field keypoints \(truth: keyp"):
        train(Attempt(recipe, 0, root))
    recipe, root = recipe_in(tmp_path, **POSES)
    sigmas = recipe.model_copy(update={"task": recipe.task.model_copy(update={"keypoint_sigmas": (0.1, 0.2)})})
    with pytest.raises(UserError, match=r"task.keypoint_sigmas: expected one .* of the 4 .*topmost.*, found 2"):
        train(Attempt(sigmas, 0, root))
