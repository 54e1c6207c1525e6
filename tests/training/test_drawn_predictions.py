"""Truth beside prediction at each validation, of segmentation and detection: an artifact that training does not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.errors import Preempted
from expflow.training import Attempt
from tests.training.comparing import comparable
from tests.training.test_generative_trials import train

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

SCENES = "{name: digit_scenes, %s, train_scenes: 21, val_scenes: 13, test_scenes: 1, side: 32, batch_size: 8}"
TRIALS = {
    "masks": "model: {name: unet, width: 2, depth: 2, norm: layer}\ntask: {name: segmentation%s}\n",
    "instances": """
model: {name: mask_rcnn, backbone: resnet, layout: [1, 1, 1], width: 4, norm: layer, head_width: 8, smallest_stride: 2,
        score_threshold: 0.0, max_detections: 20, proposals: 20, hidden: 8, mask_width: 4}
task: {name: detection, areas: [60, 120]%s}
""",
    "keypoints": """
model: {name: keypoint_rcnn, backbone: resnet, layout: [1, 1, 1], width: 4, norm: layer, head_width: 8,
        smallest_stride: 2, score_threshold: 0.0, max_detections: 20, proposals: 20, hidden: 8, keypoint_width: 4,
        keypoint_layers: 2}
task: {name: detection, areas: [60, 120]%s}
""",
}


def recipe_in(folder: Path, truth: str, keys: str = "") -> tuple[Recipe, Path]:
    file = folder / "scenes.yaml"
    optimizer = "optimizer: {name: sgd, lr: 0.01, momentum: 0.9}\ntrainer: {epochs: 2, ema: 0.5}\n"
    file.write_text(f"data: {SCENES % f'truth: {truth}'}\n{TRIALS[truth] % keys}\n{optimizer}")
    recipe = load(file).experiment.recipe
    return recipe, prepare(recipe.data, cache=folder / "cache").root  # type: ignore[arg-type]


@pytest.mark.parametrize("truth", sorted(TRIALS))
def test_a_picture_of_each_validation_that_training_does_not_see(truth: str, tmp_path: Path) -> None:
    recipe, root = recipe_in(tmp_path, truth)
    whole, reports, drawn = train(Attempt(recipe, 0, root, tmp_path / "trial"))
    assert sorted(drawn) == [report.step for report in reports]
    assert all(len(np.unique(np.asarray(Image.open(artifact.path)))) > 3 for artifact in drawn.values())
    averaged, raw = (list((tmp_path / "trial" / "artifacts" / name).iterdir()) for name in ("samples", "samples_raw"))
    assert len(averaged) == len(raw) == 2
    none, root = recipe_in(tmp_path, truth, ", samples: 0")
    without, the_same, nothing = train(Attempt(none, 0, root, tmp_path / "none"))
    assert nothing == {}
    assert without.weights == whole.weights
    assert comparable(the_same[-1].metrics) == comparable(reports[-1].metrics)


@pytest.mark.parametrize("truth", sorted(TRIALS))
def test_a_trial_that_was_cut_draws_the_same_picture(truth: str, tmp_path: Path) -> None:
    recipe, root = recipe_in(tmp_path, truth)
    _, _, drawn = train(Attempt(recipe, 0, root, tmp_path / "whole"))
    with pytest.raises(Preempted):
        train(Attempt(recipe, 0, root, tmp_path / "cut"), leave_at=4)
    _, _, again = train(Attempt(recipe, 0, root, tmp_path / "cut"))
    assert again[max(drawn)].sha256 == drawn[max(drawn)].sha256


@pytest.mark.parametrize("truth", sorted(TRIALS))
def test_two_ranks_draw_once(truth: str, tmp_path: Path) -> None:
    recipe, root = recipe_in(tmp_path, truth)
    _, reports, _ = train(Attempt(recipe, 0, root, tmp_path), ranks=2)
    steps = [int(file.stem.removeprefix("step-")) for file in sorted((tmp_path / "artifacts" / "samples").iterdir())]
    assert steps == [report.step for report in reports]
