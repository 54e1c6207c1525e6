"""Masked autoencoders: their size, what the encoder sees, the loss by hand, and probes against scikit-learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from expflow.architectures import build, count
from expflow.architectures.mae import MAE, image_of, patches_of
from expflow.config.schema import Recipe
from expflow.errors import UserError
from expflow.registry import MODELS, OPTIMIZERS, SCHEDULES
from expflow.tasks import build_task
from expflow.tasks.feature_probes import FOLDS, RIDGE, linear_probe_top1, neighbours_top1
from expflow.tasks.generative_specs import MAETaskSpec
from expflow.tasks.keyed_noise import FIXED
from expflow.training.transfer.weight_loading import load_fitting_weights
from tests.architectures.nets import data, large, meta, params

SMALL = {"patch": 2, "depth": 2, "width": 12, "heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}


def small(**changes: Any) -> MAE:
    torch.manual_seed(0)
    network = build(MODELS.spec("mae")(name="mae", **{**SMALL, **changes}), data(3, 8, 5))
    assert isinstance(network, MAE)
    return network


def task_of(**keys: Any) -> Any:
    torch.manual_seed(0)
    recipe = Recipe(
        task=MAETaskSpec(name="mae", **keys),
        model=MODELS.spec("mae")(name="mae", **SMALL),
        optimizer=OPTIMIZERS.spec("sgd")(name="sgd"),
        schedule=SCHEDULES.spec("constant")(name="constant"),
    )
    return build_task(recipe, data(3, 8, 5))


def batch_of(number: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randint(0, 256, (number, 3, 8, 8), generator=generator, dtype=torch.uint8),
        "label": torch.arange(number) % 5,
        "index": torch.arange(number),
        "valid": torch.ones(number, dtype=torch.bool),
    }


@pytest.mark.parametrize(
    ("keys", "total"), [({}, 111_907_840), ({"depth": 24, "width": 1024, "heads": 16}, 329_541_888)]
)
def test_published_sizes(keys: dict[str, int], total: int) -> None:
    network = meta(MODELS.spec("mae")(name="mae", **keys), large())
    assert params(network) == count(MODELS.spec("mae")(name="mae", **keys), large()).params == total
    if not keys:
        assert total - params(network.get_submodule("head")) == 85_798_656


def test_patches_are_cut_and_put_together() -> None:
    image = torch.arange(2 * 3 * 4 * 6).float().view(2, 3, 4, 6)
    patches = patches_of(image, 2)
    assert patches.shape == (2, 6, 12)
    assert torch.equal(patches[0, 1], image[0, :, :2, 2:4].flatten())
    assert torch.equal(image_of(patches, 2, (3, 4, 6)), image)


@pytest.mark.parametrize("pooling", ["cls", "average"])
def test_what_is_taken_away_is_not_seen_and_what_is_seen_keeps_its_place(pooling: str) -> None:
    network = small(pooling=pooling).eval()
    x, order = torch.randn(2, 3, 8, 8), torch.stack([torch.randperm(16) for _ in range(2)])
    changed = patches_of(x, 2).clone()
    for sample in range(2):
        changed[sample, order[sample, 6:]] = 9.0
    with torch.no_grad():
        assert torch.equal(network(x, order, 6), network(image_of(changed, 2, (3, 8, 8)), order, 6))
        shuffled = torch.cat([order[:, :6].flip(1), order[:, 6:].flip(1)], 1)
        assert torch.allclose(network(x, order, 6), network(x, shuffled, 6), atol=1e-5), "a set has no order"
        assert torch.allclose(network(x, order, 16), network(x), atol=1e-5), "all of them seen"


def test_the_loss_by_hand() -> None:
    for keys in ({"norm_pix": False}, {"norm_pix": True, "loss_on": "all"}, {"mask_ratio": 0.5}):
        task, batch = task_of(**keys).eval(), batch_of(3)
        order, away = task._masked(batch, FIXED)
        kept = 8 if keys.get("mask_ratio") == 0.5 else 4
        assert away.sum(1).tolist() == [16 - kept] * 3
        x = batch["image"].float() / 255
        with torch.no_grad():
            drawn, expected = task.model(x, order, kept), []
            for sample in range(3):
                errors = []
                for patch in range(16):
                    row, column = divmod(patch, 4)
                    place = (slice(None), slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
                    target = x[sample][place]
                    if keys.get("norm_pix", True):
                        target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
                    if away[sample, patch] or keys.get("loss_on") == "all":
                        errors.append((drawn[sample][place] - target).square().mean().item())
                expected.append(sum(errors) / len(errors))
            assert task._errors(batch, FIXED).tolist() == pytest.approx(expected, rel=1e-4)


def test_each_epoch_has_masks_of_its_own_and_validation_has_one() -> None:
    task, batch = task_of(), batch_of(4)
    first, second, fixed = (task._masked(batch, epoch)[1] for epoch in (0, 1, FIXED))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(fixed, task._masked(batch, FIXED)[1])


def test_a_ratio_that_takes_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"task.mask_ratio 0.01 takes none of an image's 16 patches away"):
        task_of(mask_ratio=0.01)


def test_the_encoder_is_taken_over_into_a_vision_transformer() -> None:
    network = small()
    vit = build(MODELS.spec("vit")(name="vit", patch=2, depth=2, width=12, heads=2), data(3, 8, 5))
    load_fitting_weights(vit, network.state_dict(), head="new", origin="x")
    x, inputs = torch.randn(2, 3, 8, 8), list[torch.Tensor]()
    vit.eval().get_submodule("head").register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        vit(x)
        assert torch.allclose(inputs[0], network.eval().features(x), atol=1e-5)


def test_probes_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (101,), generator=generator)
    features = torch.randn(101, 6, generator=generator) + 1.2 * torch.nn.functional.one_hot(labels, 6)
    hits = 0
    for fold in range(FOLDS):
        tested = torch.arange(101) % FOLDS == fold
        x, y = features[~tested].double().numpy(), torch.nn.functional.one_hot(labels[~tested], 4).double().numpy()
        mean, scale = x.mean(0), x.std(0)
        ridge = Ridge(alpha=RIDGE * len(x)).fit((x - mean) / scale, y)
        named = ridge.predict((features[tested].double().numpy() - mean) / scale).argmax(1)
        hits += int((named == labels[tested].numpy()).sum())
    assert linear_probe_top1(features, labels, 4).item() == pytest.approx(hits / 101)
    centred = (features - features.mean(0)).double().numpy()
    named = []
    for sample in range(101):
        others = [place for place in range(101) if place != sample]
        neighbours = KNeighborsClassifier(5, metric="cosine", weights=lambda distance: 1 + 1e-3 * (1 - distance))
        named.append(int(neighbours.fit(centred[others], labels[others].numpy()).predict(centred[[sample]])[0]))
    assert neighbours_top1(features, labels, 4).item() == pytest.approx(
        (torch.tensor(named) == labels).float().mean().item()
    )
