"""What does not go with masks is refused where it is written, with the reason; image sizes move masks along."""

import pytest
import torch

from expflow.config import load
from expflow.errors import ExperimentInvalid
from expflow.training.progressive_resizing import ProgressiveResizing

RECIPE = """\
data: {{name: digit_scenes, train: {{{train}}}}}
model: {{name: unet, width: 2, depth: 1}}
task: segmentation
optimizer: sgd
{more}
"""


@pytest.mark.parametrize(
    ("train", "more", "place", "message"),
    [
        ("mixup: 0.2", "", (1, "data.train.mixup"), "mixes two images into one, whose pixels then have two classes"),
        ("flip: 0.5, cutmix: 1.0", "", (1, "data.train.cutmix"), "a mask holds one for each"),
        ("", "init: {from: x/best, freeze: backbone, probe: true}", (5, "init.probe"), "masks need maps"),
    ],
)
def test_what_does_not_go_with_masks_is_refused_with_the_reason(train, more, place, message, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(RECIPE.format(train=train, more=more))
    with pytest.raises(ExperimentInvalid) as raised:
        load(file)
    (problem,) = raised.value.problems
    assert (problem.line, problem.key) == place
    assert message in problem.message


def test_what_goes_with_masks_is_taken(tmp_path):
    file = tmp_path / "right.yaml"
    file.write_text(RECIPE.format(train="flip: 0.5, pad_and_crop: 2, random_resized_crop: {}", more=""))
    assert load(file).experiment.recipe.task.main_metric == "val/miou"


class Epoch:
    current_epoch = 3


def test_masks_are_resized_with_their_images():
    resizing = ProgressiveResizing([(2, 4)], probe=False, masks=["mask"])
    mask = torch.tensor([0, 1, 255], dtype=torch.uint8)[torch.arange(64).view(1, 8, 8) % 3]
    batch = {"image": mask[:, None].repeat(1, 3, 1, 1), "mask": mask}
    resizing.on_train_batch_start(Epoch(), None, batch, 0)
    assert batch["image"].shape == (1, 3, 4, 4)
    assert batch["mask"].shape == (1, 4, 4)
    assert torch.equal(batch["mask"], mask[:, 1::2, 1::2])


def test_boxes_and_points_are_moved_with_their_images():
    resizing = ProgressiveResizing([(2, 4)], probe=False)
    boxes, points = torch.tensor([[[2.0, 4, 8, 16]]]), torch.tensor([[[[6.0, 4, 2], [0, 0, 0], [3, 16, 1]]]])
    batch = {"image": torch.zeros(1, 3, 16, 8, dtype=torch.uint8), "boxes": boxes, "keypoints": points}
    resizing.on_train_batch_start(Epoch(), None, batch, 0)
    assert batch["boxes"].tolist() == [[[1, 1, 4, 4]]]
    assert batch["keypoints"].tolist() == [[[[3, 1, 2], [0, 0, 0], [1.5, 4, 1]]]]
