"""MixUp and CutMix: shares of labels follow shares of pixels, and padding stays out of it."""

import pytest
import torch

from expflow.data.augment.mixing import mix
from expflow.data.augment.specs import TrainTransform


def batch(n=6, invalid=()):
    """Sample i is one colour, 10 * i, and its class is i."""
    image = (torch.arange(n) * 10)[:, None, None, None].expand(n, 3, 8, 8).to(torch.uint8).contiguous()
    valid = torch.ones(n, dtype=torch.bool)
    valid[list(invalid)] = False
    return {"image": image, "label": torch.arange(n), "valid": valid, "index": torch.arange(n)}


def share_of_pixels(mixed, n):
    """How much of each image comes from each sample, by its colour."""
    return torch.stack([(mixed["image"] == 10 * sample).float().mean((1, 2, 3)) for sample in range(n)], 1)


def test_without_alphas_nothing_happens():
    given = batch()
    assert mix(given, TrainTransform(), 6, seed=0, step=0) == given


@pytest.mark.parametrize("step", range(8))
def test_cutmix_labels_are_the_shares_of_the_pixels(step):
    mixed = mix(batch(), TrainTransform(cutmix=1.0), 6, seed=0, step=step)
    assert torch.allclose(mixed["label"], share_of_pixels(mixed, 6))
    assert mixed["image"].dtype == torch.uint8


@pytest.mark.parametrize("step", range(8))
def test_mixup_labels_are_the_shares_of_the_values(step):
    given = batch()
    mixed = mix(given, TrainTransform(mixup=0.8), 6, seed=0, step=step)
    share = mixed["label"].diagonal()[:, None, None, None]
    wanted = share * given["image"].float() + (1 - share) * given["image"].roll(1, 0).float()
    assert (mixed["image"].float() - wanted).abs().max() <= 0.51
    assert torch.allclose(mixed["label"].sum(1), torch.ones(6))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("invalid", [(5,), (4, 5), (2,), (0, 1, 2, 3, 4, 5)])
def test_padding_is_never_mixed(kind, invalid):
    for step in range(5):
        given = batch(invalid=invalid)
        mixed = mix(given, TrainTransform(**{kind: 1.0}), 6, seed=0, step=step)
        for slot in invalid:
            after = (slot + 1) % 6
            assert torch.equal(mixed["image"][slot], given["image"][slot])
            assert torch.equal(mixed["image"][after], given["image"][after])
            assert mixed["label"][after, slot] == (after == slot)
        assert mixed["label"][list(invalid)].argmax(1).tolist() == list(invalid)


def test_it_depends_on_seed_and_step_alone():
    spec = TrainTransform(mixup=0.2, cutmix=1.0)
    first = mix(batch(), spec, 6, seed=1, step=2)
    torch.manual_seed(99)
    again = mix(batch(), spec, 6, seed=1, step=2)
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    assert not torch.equal(first["label"], mix(batch(), spec, 6, seed=1, step=3)["label"])


def test_both_take_turns():
    kinds = set()
    for step in range(30):
        mixed = mix(batch(), TrainTransform(mixup=1.0, cutmix=1.0), 6, seed=0, step=step)
        kinds.add(bool(torch.allclose(share_of_pixels(mixed, 6).sum(1), torch.ones(6))))
    assert kinds == {True, False}


def test_floating_images_keep_their_kind():
    given = batch() | {"image": batch()["image"].half()}
    assert mix(given, TrainTransform(mixup=1.0), 6, seed=0, step=0)["image"].dtype == torch.half
