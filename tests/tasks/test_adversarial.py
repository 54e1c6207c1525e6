"""Objectives against hand-worked values, who gets gradients of what, and what the tasks show their networks."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import UserError
from expflow.optim import build_optimizer, build_schedule
from expflow.registry import OPTIMIZERS, SCHEDULES, TASKS, load_dotted
from expflow.tasks.adversarial_losses import OBJECTIVES, valid_mean
from expflow.tasks.image_conditions import class_colours, edges
from expflow.tasks.sliced_distance import SlicedDistance, sliced_distance

IMAGES = DataSpec(
    {"image": FieldSpec((1, 8, 8), "uint8"), "mask": FieldSpec((8, 8), "uint8", kind="mask")},
    ("background", "object"),
    mean=(0.25,),
    std=(0.25,),
)
WORKED = {
    # logits 0 and 2 -> what the discriminator has of real and of made images, and the generator of made ones
    "non_saturating": (
        [math.log(2), math.log(1 + math.exp(-2))],
        [math.log(2), math.log(1 + math.exp(2))],
        [math.log(2), math.log(1 + math.exp(-2))],
    ),
    "hinge": ([1.0, 0.0], [1.0, 3.0], [0.0, -2.0]),
    "least_squares": ([0.5, 0.5], [0.0, 2.0], [0.5, 0.5]),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_has_its_hand_worked_values(name):
    logits, objective = torch.tensor([0.0, 2.0]), OBJECTIVES[name]
    values = [loss(logits).tolist() for loss in (objective.of_real, objective.of_made, objective.of_generator)]
    assert values == [pytest.approx(worked, rel=1e-6) for worked in WORKED[name]]


def test_padding_has_no_part_in_a_mean():
    assert valid_mean(torch.tensor([1.0, 2.0, 50.0]), torch.tensor([True, True, False])) == 1.5
    assert valid_mean(torch.tensor([float("nan")]), torch.tensor([False])) == 0


def test_the_sliced_distance_of_shifted_images_is_the_mean_shift_of_their_projections():
    real, shift = torch.rand(50, 1, 4, 4), 0.5
    collected = SlicedDistance(16)
    collected.add(real[:20], real[:20] + shift, torch.ones(20, dtype=torch.bool))
    valid = torch.arange(30) < 29
    collected.add(real[20:], torch.where(valid[:, None, None, None], real[20:] + shift, 99), valid)
    directions = collected._directions
    assert sliced_distance(collected.take()) == pytest.approx(
        directions.sum(0).abs().mul(shift).mean().item(), rel=1e-4
    )
    assert len(collected.take()) == 0


def test_the_sliced_distance_grows_with_how_different_two_sets_are():
    generator = np.random.default_rng(0)
    first, second = (torch.from_numpy(generator.random((200, 1, 4, 4), dtype=np.float32)) for _ in range(2))
    distances = []
    for other in (second, second.square(), torch.zeros_like(second)):
        collected = SlicedDistance(16)
        collected.add(first, other, torch.ones(200, dtype=torch.bool))
        distances.append(float(sliced_distance(collected.take())))
    assert distances == sorted(distances)


class Judge(nn.Module):
    """Scores by the mean pixel; remembers what it was shown."""

    def __init__(self, sees="image"):
        super().__init__()
        self.sees, self.weight, self.shown = sees, nn.Parameter(torch.ones(1)), []

    def forward(self, image_bchw):
        self.shown.append(image_bchw.detach())
        return self.weight * image_bchw.flatten(1).mean(1, keepdim=True)


class Maker(nn.Module):
    """Gives a learned constant, as images of a shape."""

    latent = 3

    def __init__(self, *shape):
        super().__init__()
        self.shape, self.value = shape, nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x):
        return self.value.expand(len(x), *self.shape)


def built(name, maker, judge, **keys):
    return assembled(name, {"generator": maker, "discriminator": judge}, **keys)


def assembled(name, networks, **keys):
    spec = TASKS.spec(name)(name=name, **keys)
    optimizer = build_optimizer(OPTIMIZERS.spec("sgd")(name="sgd", lr=0.1))
    schedule = build_schedule(SCHEDULES.spec("constant")(name="constant"))
    return load_dotted(spec.build)(spec, IMAGES, model=nn.ModuleDict(networks), optimizer=optimizer, schedule=schedule)


def batch(value=255, images=4):
    return {
        "image": torch.full((images, 1, 8, 8), value, dtype=torch.uint8),
        "mask": torch.zeros(images, 8, 8, dtype=torch.uint8),
        "valid": torch.ones(images, dtype=torch.bool),
        "index": torch.arange(images),
    }


def test_real_and_made_images_come_to_the_discriminator_in_batches_of_their_own():
    judge = Judge()
    task = built("gan", Maker(1, 8, 8), judge, objective="least_squares")
    made = task.made(batch(), 0)
    loss = task.discriminator_loss(batch(), made)
    assert [shown.unique().tolist() for shown in judge.shown] == [[1.0], [0.5]]
    assert loss.item() == pytest.approx((1 - 1) ** 2 / 2 + 0.5**2 / 2)
    assert task.generator_loss(batch(), made).item() == pytest.approx((0.5 - 1) ** 2 / 2)


def test_pix2pix_weighs_the_difference_and_the_discriminator():
    judge = Judge("pair")
    task = built(
        "pix2pix", Maker(1, 8, 8), judge, condition="edges", objective="least_squares", l1=10.0, adversarial=2.0
    )
    made = task.made(batch(), 0)
    assert made["condition"].unique().tolist() == [-1.0], "an even image has no edges"
    real, fake = (1 - 1) / 2, (0.5 - 1) / 2  # means of the condition, -1, beside the image
    worked = ((real - 1) ** 2 / 2 + fake**2 / 2) / 2
    assert task.discriminator_loss(batch(), made).item() == pytest.approx(worked)
    assert [tuple(shown.shape) for shown in judge.shown] == [(4, 2, 8, 8)] * 2
    assert task.generator_loss(batch(), made).item() == pytest.approx(10 * 0.5 + 2 * (fake - 1) ** 2 / 2)


def test_an_unconditional_discriminator_sees_the_image_alone_and_none_at_weight_zero():
    judge = Judge("image")
    task = built("pix2pix", Maker(1, 8, 8), judge, condition="mask", adversarial=0.0, l1=1.0)
    made = task.made(batch(), 0)
    assert task.generator_loss(batch(), made).item() == pytest.approx(0.5)
    assert judge.shown == []
    task.discriminator_loss(batch(), made)
    assert [tuple(shown.shape) for shown in judge.shown] == [(4, 1, 8, 8)] * 2


def test_a_cycle_weighs_the_way_back_and_what_is_right_already():
    makers = {"to_image": Maker(1, 8, 8), "to_condition": Maker(1, 8, 8)}
    judges = {"image_judge": Judge(), "condition_judge": Judge()}
    keys = {"condition": "edges", "objective": "least_squares", "cycle": 4.0, "same": 3.0}
    task = assembled("cyclegan", makers | judges, **keys)
    made = task.made(batch(), 0)
    # makers give 0.5; images are 1 and conditions -1 throughout
    back = 1.5 + 0.5
    assert task.generator_loss(batch(), made).item() == pytest.approx(2 * 0.25 / 2 + 4 * back + 3 * back)
    image_loss, condition_loss = 0 / 2 + 0.25 / 2, 4 / 2 + 0.25 / 2
    assert task.discriminator_loss(batch(), made).item() == pytest.approx((image_loss + condition_loss) / 2)
    free = assembled("cyclegan", makers | judges, **keys | {"cycle": 0.0, "same": 0.0})
    assert free.generator_loss(batch(), free.made(batch(), 0)).item() == pytest.approx(0.25)


def test_a_context_encoder_sees_the_mean_in_the_hole_and_shares_its_loss():
    judge = Judge("centre")
    task = built("context_encoder", Maker(1, 4, 4), judge, objective="least_squares", adversarial=0.1)
    holed = task.holed(task.scaled(batch()["image"]))
    assert (holed[:, :, 2:6, 2:6] == 2 * 0.25 - 1).all()
    assert (holed == 1).sum() == 4 * (64 - 16)
    made = task.made(batch(), 0)
    assert task.generator_loss(batch(), made).item() == pytest.approx(0.9 * 0.25 + 0.1 * (0.5 - 1) ** 2 / 2)
    task.discriminator_loss(batch(), made)
    assert [tuple(shown.shape) for shown in judge.shown[1:]] == [(4, 1, 4, 4)] * 2


def test_where_the_prediction_overlaps_what_is_seen_differences_count_tenfold():
    task = built("context_encoder", Maker(1, 4, 4), Judge("centre"), adversarial=0.0, overlap=1)
    assert (task.holed(task.scaled(batch()["image"])) == 1).sum() == 4 * (64 - 4)
    worked = (12 * 10 + 4 * 1) / 16 * 0.25
    assert task.generator_loss(batch(), task.made(batch(), 0)).item() == pytest.approx(worked)


def test_edges_are_where_brightness_changes():
    step = torch.zeros(1, 1, 4, 6)
    step[..., 3:] = 1
    assert edges(step)[0, 0, 1].tolist() == [0, 0, 1, 1, 0, 0]


def test_classes_have_colours_of_their_own_and_void_is_black():
    colours = class_colours(11, 3)
    assert len(colours[:11].unique(dim=0)) == 11
    assert (colours[[11, 255]] == -1).all()
    assert len(class_colours(5, 1)[:5].unique()) == 5


@pytest.mark.parametrize(
    ("name", "maker", "judge", "keys", "message"),
    [
        ("gan", nn.Linear(3, 3), Judge(), {}, "generator Linear has no attribute `latent`"),
        ("context_encoder", Maker(1, 4, 4), Judge("centre"), {"overlap": 2}, "leave nothing of a hole of 4"),
        ("pix2pix", Maker(1, 8, 8), Judge("pair"), {"condition": "grey"}, "grey already"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(name, maker, judge, keys, message):
    with pytest.raises(UserError, match=message):
        built(name, maker, judge, **keys)


def test_networks_that_give_something_else_are_named():
    task = built("gan", Maker(1, 4, 4), Judge())
    with pytest.raises(UserError, match=r"generator Maker gives an output of shape \(4, 1, 4, 4\)"):
        task.made(batch(), 0)
    task = built("gan", Maker(1, 8, 8), nn.Flatten(0))
    with pytest.raises(UserError, match="discriminator Flatten gives an output of shape"):
        task.discriminator_loss(batch(), task.made(batch(), 0))
