"""Segmentation: what counts, and how much, beside torchmetrics and beside plain torch."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from expflow.data.dataspec import VOID, DataSpec, FieldSpec
from expflow.errors import UserError
from expflow.tasks.segmentation import Segmentation, mean_iou, overlap_counts

CLASSES = 4
DATA = DataSpec(
    {"image": FieldSpec((3, 6, 8), "uint8"), "mask": FieldSpec((6, 8), "uint8", kind="mask")}, tuple("abcd")
)


def batch_of(count, seed=0, valid=None, classes=CLASSES):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, classes + 1, (count, 6, 8), generator=generator, dtype=torch.uint8)
    return {
        "image": torch.randint(0, 256, (count, 3, 6, 8), generator=generator, dtype=torch.uint8),
        "mask": mask.masked_fill(mask == classes, VOID),
        "valid": torch.ones(count, dtype=torch.bool) if valid is None else torch.tensor(valid),
    }


def task_of(model, loss=None, data=DATA):
    torch.manual_seed(0)
    loss = loss or nn.CrossEntropyLoss(reduction="none")
    return Segmentation(data, model, loss, lambda params: None, lambda *args: None)


def metrics_of(task, batches):
    task.eval()
    with torch.no_grad():
        for batch in batches:
            task.validation_step(batch, 0)
    return {name: value.item() for name, value in task.measured(task._epoch_means.total()).items()}


def truth_and_predictions(task, batches):
    with torch.no_grad():
        predicted = torch.cat([task(batch["image"])[batch["valid"]].argmax(1) for batch in batches])
    return torch.cat([batch["mask"][batch["valid"]] for batch in batches]).long(), predicted


@pytest.mark.parametrize("classes", [CLASSES, 2], ids=["all classes", "two that are not there"])
def test_metrics_are_those_of_torchmetrics_over_all_pixels_that_count(classes):
    batches = [batch_of(5, 0, classes=classes), batch_of(3, 1, [True, False, True], classes=classes)]
    task = task_of(nn.Conv2d(3, CLASSES, 1))
    if classes < CLASSES:
        nn.init.constant_(task.model.bias[classes:], -1e4)
    metrics = metrics_of(task, batches)
    truth, predicted = truth_and_predictions(task, batches)
    options = {"num_classes": CLASSES, "ignore_index": VOID}
    iou = multiclass_jaccard_index(predicted, truth, average="none", **options)
    present = torch.tensor([bool(((truth == c) | ((predicted == c) & (truth != VOID))).any()) for c in range(CLASSES)])
    assert present.sum() == classes
    assert metrics["miou"] == pytest.approx(iou[present].mean().item(), abs=1e-6)
    accuracy = multiclass_accuracy(predicted, truth, average="micro", **options).item()
    assert metrics["pixel_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    scores = torch.cat([task(batch["image"])[batch["valid"]] for batch in batches])
    assert metrics["loss"] == pytest.approx(functional.cross_entropy(scores, truth, ignore_index=VOID).item(), abs=1e-6)


def test_the_mean_over_the_data_set_is_not_that_over_images():
    """One large area found and one pixel missed: 0.99 and not 0.75, which the mean over the two images would be."""
    target = torch.zeros(2, 10, 10, dtype=torch.int64)
    predicted = target.clone()
    target[0, :5] = 1
    predicted[0, :5] = 1
    target[1, 0, 0] = 1
    overlaps = overlap_counts(predicted, target, 2)
    assert mean_iou(overlaps.sum(0)).item() == pytest.approx((149 / 150 + 50 / 51) / 2)
    assert torch.stack([mean_iou(image) for image in overlaps]).mean().item() < 0.76


def gradient(task, batch):
    task.zero_grad()
    task.train()
    loss = task.training_step(batch, 0)
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in task.parameters()]


def test_the_gradient_is_that_of_the_mean_over_pixels_whatever_torch_averages():
    batch = batch_of(4, valid=[True, True, True, False])
    own, theirs = task_of(nn.Conv2d(3, CLASSES, 1)), task_of(nn.Conv2d(3, CLASSES, 1), nn.CrossEntropyLoss())
    for first, second in zip(gradient(own, batch)[1], gradient(theirs, batch)[1], strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_void_pixels_and_padding_have_no_part():
    batch = batch_of(3, valid=[True, True, False])
    other = {name: values.clone() for name, values in batch.items()}
    other["image"][2], other["mask"][2] = 7, 1
    other["image"].masked_fill_((batch["mask"] == VOID)[:, None], 99)
    task = task_of(nn.Conv2d(3, CLASSES, 1))
    for first, second in zip(gradient(task, batch)[1], gradient(task, other)[1], strict=True):
        assert torch.allclose(first, second, atol=1e-6)


class Halved(nn.Module):
    """Scores of half the image's size, in the mapping that torchvision's networks give."""

    def __init__(self):
        super().__init__()
        self.conv, self.aux = nn.Conv2d(3, CLASSES, 2, stride=2), nn.Conv2d(3, CLASSES, 2, stride=2)

    def forward(self, x_bchw):
        return {"out": self.conv(x_bchw), "aux": self.aux(x_bchw)}


def test_scores_are_resized_to_the_mask_and_auxiliary_ones_are_learned_from():
    task, batch = task_of(Halved()), batch_of(2)
    loss, gradients = gradient(task, batch)
    target = batch["mask"].long()
    out = task(batch["image"])
    parts = [
        functional.cross_entropy(
            functional.interpolate(out[name], size=(6, 8), mode="bilinear"), target, ignore_index=VOID
        )
        for name in ("out", "aux")
    ]
    assert loss.item() == pytest.approx((parts[0] + 0.4 * parts[1]).item(), abs=1e-6)
    assert all(part.abs().sum() > 0 for part in gradients)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(144, CLASSES)), r"output of shape \(2, 4\) for 2 images of 4 classes"),
        (nn.Conv2d(3, CLASSES + 1, 1), r"shape \(2, 5, 6, 8\)"),
    ],
    ids=["one for each image", "a class more"],
)
def test_other_outputs_are_refused_with_the_shape_that_is_needed(model, message):
    with pytest.raises(UserError, match=message):
        task_of(model).training_step(batch_of(2), 0)


def test_losses_of_other_shapes_are_refused():
    with pytest.raises(UserError, match=r"values of shape \(2, 6\)"):
        task_of(nn.Conv2d(3, CLASSES, 1), lambda scores, target: scores.sum((1, 3))).training_step(batch_of(2), 0)
