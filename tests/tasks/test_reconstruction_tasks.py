"""Super-resolution and anomalies: sizes, what is seen, and scores against scikit-learn and torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from expflow.architectures import count
from expflow.config.schema import Recipe
from expflow.errors import UserError
from expflow.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULES, TASKS
from expflow.tasks import build_task
from expflow.tasks.anomaly import auroc
from tests.architectures.nets import data
from tests.tasks.test_task_contract import MEASURED, measured_images


def task_of(name: str, data_spec: Any, model: dict[str, Any], **keys: Any) -> Any:
    torch.manual_seed(0)
    recipe = Recipe(
        task=TASKS.spec(name)(name=name, **keys),
        model=MODELS.spec(model["name"])(**model),
        loss=LOSSES.spec("squared")(name="squared"),
        optimizer=OPTIMIZERS.spec("sgd")(name="sgd"),
        schedule=SCHEDULES.spec("constant")(name="constant"),
    )
    return build_task(recipe, data_spec)


def test_srcnn_has_the_weights_of_the_paper() -> None:
    assert count(MODELS.spec("srcnn")(name="srcnn"), data(1, 33, 10)).params == 8_032 + 64 + 32 + 1


def test_super_resolution_sees_the_image_shrunk_and_a_network_that_changes_nothing_gains_nothing() -> None:
    task = task_of("super_resolution", data(3, 8, 5), {"name": "srcnn", "residual": True}, factor=4).eval()
    image = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    small = functional.interpolate(image.float(), size=2, mode="bicubic", antialias=True)
    assert torch.equal(task.seen(image), functional.interpolate(small, size=8, mode="bicubic").clamp(0, 255))
    changed = image.clone()
    changed[:, :, ::2, ::2] += 1
    assert not torch.equal(task.seen(changed), task.seen(image)), "a mean over pixels, no choice of some"
    task.validation_step({"image": image, "valid": torch.ones(2, dtype=torch.bool)}, 0)
    measured = task.measured(task._epoch_means.total())
    assert measured["psnr_gain"].item() == pytest.approx(0, abs=1e-4)
    with pytest.raises(UserError, match=r"task.factor 3 does not divide images of 8x8"):
        task_of("super_resolution", data(3, 8, 5), {"name": "srcnn"}, factor=3)


def test_a_class_that_is_left_out_is_not_learned_from() -> None:
    network = {"name": "autoencoder", "backbone": "resnet", "depth": 8, "width": 2, "code": 3, "decoder_width": 2}
    batch = {**measured_images(), "valid": torch.ones(4, dtype=torch.bool), "label": torch.tensor([0, 3, 1, 3])}
    changed = {**batch, "image": batch["image"].clone()}
    changed["image"][[1, 3]] = 7
    losses = [task_of("anomaly", MEASURED, network, left_out="d").training_loss(b) for b in (batch, changed)]
    assert [samples.item() for _, samples in losses] == [2, 2]
    assert torch.equal(losses[0][0], losses[1][0]), "nor do its norms over the batch see such images"
    with pytest.raises(UserError, match=r"task.left_out: there is no class 'z'; there are a, b"):
        task_of("anomaly", MEASURED, network, left_out="z")


def test_the_area_under_the_roc_curve_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 12, (200,), generator=generator).float()
    positive = torch.rand(200, generator=generator) < 0.2 + 0.03 * scores
    assert auroc(scores, positive).item() == pytest.approx(roc_auc_score(positive.numpy(), scores.numpy()))
    assert auroc(scores[positive], positive[positive]).isnan()
