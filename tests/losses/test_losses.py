"""Losses against hand-worked values."""

import math

import pytest
import torch
from torch import nn

from expflow.config.spec import UserComponent
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import build
from expflow.losses.specs import CrossEntropySpec
from expflow.registry import LOSSES

NO_DATA = DataSpec(fields={})
THREE = DataSpec({}, ("cat", "dog", "ship"))
LECTURE = torch.tensor([[5.0, 4.0, 2.0]])  # the scores of the course's worked softmax
REGRESSION = torch.tensor([[0.5, 2.0, -1.0]])


def loss(name, data=THREE, **arguments):
    return build(LOSSES.spec(name)(name=name, **arguments), data)


def value(built, scores, label):
    values = built(scores, torch.tensor([label]))
    assert values.shape == (1,)
    return values.item()


def test_cross_entropy_is_minus_the_log_of_the_labels_share():
    scores = torch.log(torch.tensor([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]))
    values = build(CrossEntropySpec(name="cross_entropy"), NO_DATA)(scores, torch.tensor([1, 0]))
    assert values.tolist() == pytest.approx([-math.log(2 / 8), -math.log(6 / 8)])


def test_the_lectures_softmax():
    assert LECTURE.softmax(1)[0, 0].item() == pytest.approx(0.70538, abs=5e-6)
    assert value(loss("cross_entropy"), LECTURE, 0) == pytest.approx(0.34901, abs=5e-6)
    assert value(loss("nll"), LECTURE.log_softmax(1), 0) == pytest.approx(0.34901, abs=5e-6)


def test_the_gradient_of_cross_entropy_is_probabilities_minus_the_target():
    scores = LECTURE.clone().requires_grad_()
    loss("cross_entropy")(scores, torch.tensor([1])).sum().backward()
    assert torch.allclose(scores.grad, LECTURE.softmax(1) - torch.tensor([[0.0, 1.0, 0.0]]))


def test_smoothing_spreads_its_share_over_all_classes():
    scores = torch.log(torch.tensor([[1.0, 3.0]]))
    smooth = build(CrossEntropySpec(name="cross_entropy", label_smoothing=0.2), NO_DATA)
    assert value(smooth, scores, 1) == pytest.approx(-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4))


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_class_weights_multiply_the_loss_of_their_class(name):
    scores = LECTURE.log_softmax(1).repeat(2, 1)
    usual, weighted = (loss(name, **more) for more in ({}, {"class_weights": (2.0, 0.5, 1.0)}))
    labels = torch.tensor([0, 1])
    assert torch.allclose(weighted(scores, labels), usual(scores, labels) * torch.tensor([2.0, 0.5]))


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_class_weights_are_one_for_each_class(name):
    with pytest.raises(UserError, match=r"class_weights has 2 values; the data have 3 classes"):
        loss(name, class_weights=(1.0, 2.0))


@pytest.mark.parametrize(
    ("margin", "label", "worked"),
    [(1.0, 0, 0.0), (1.0, 1, 2.0), (1.0, 2, 4.0 + 3.0), (2.0, 0, 1.0), (2.0, 2, 5.0 + 4.0)],
)
def test_hinge_by_hand(margin, label, worked):
    assert value(loss("hinge", margin=margin), LECTURE, label) == pytest.approx(worked)


def test_hinge_is_torchs_times_the_number_of_classes():
    scores, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    torchs = nn.MultiMarginLoss(margin=0.7, reduction="none")
    assert torch.allclose(loss("hinge", margin=0.7)(scores, labels), 3 * torchs(scores, labels))


@pytest.mark.parametrize(
    ("name", "arguments", "worked"),
    [
        ("squared", {}, 0.25 + 1 + 1),
        ("l1", {}, 0.5 + 1 + 1),
        ("smooth_l1", {}, 0.125 + 0.5 + 0.5),
        ("smooth_l1", {"beta": 0.5}, 0.25 + 0.75 + 0.75),
    ],
)
def test_distances_from_the_one_hot_target_by_hand(name, arguments, worked):
    assert value(loss(name, **arguments), REGRESSION, 1) == pytest.approx(worked)


def test_binary_cross_entropy_asks_for_each_class():
    assert value(loss("bce"), torch.zeros(1, 2), 0) == pytest.approx(2 * math.log(2))
    scores = torch.log(torch.tensor([[3.0, 1 / 3, 1.0]]))  # p = 3/4, 1/4, 1/2
    assert value(loss("bce"), scores, 0) == pytest.approx(-math.log(3 / 4) * 2 + math.log(2), rel=1e-5)
    smooth = value(loss("bce", label_smoothing=0.2), scores, 0)
    assert smooth == pytest.approx(2 * (-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4)) + math.log(2), rel=1e-5)


@pytest.mark.parametrize("name", ["squared", "l1", "smooth_l1", "bce"])
def test_shares_of_classes_are_a_target_too(name):
    built = loss(name)
    assert torch.equal(built(LECTURE, torch.tensor([1])), built(LECTURE, torch.tensor([[0.0, 1.0, 0.0]])))


@pytest.mark.parametrize("name", [name for name in LOSSES.names() if name != "dice"])  # it compares areas
def test_every_loss_gives_one_value_per_sample_and_a_gradient(name):
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    values = loss(name)(scores, torch.tensor([0, 1, 2, 0]))
    assert values.shape == (4,)
    values.sum().backward()
    assert scores.grad.abs().sum() > 0


def test_a_loss_of_torchs_gives_one_value_per_sample():
    built = build(UserComponent(name="torch.nn:L1Loss"), NO_DATA)
    assert built(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])).tolist() == [1, 3]


def test_the_yaml_may_choose_the_reduction():
    built = build(UserComponent(name="torch.nn:L1Loss", reduction="sum"), NO_DATA)
    assert built(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])).item() == 4


def test_a_loss_that_asks_for_the_data_is_given_them():
    built = build(UserComponent(name="tests.training.user_code:ClassWeighted"), DataSpec({}, ("a", "b")))
    assert isinstance(built, nn.Module)
    assert built.weights.tolist() == [1, 2]


def test_what_cannot_be_called_is_no_loss():
    with pytest.raises(UserError, match="needed"):
        build(UserComponent(name="builtins:dict", a=1), NO_DATA)


SOFT = torch.tensor([[0.25, 0.0, 0.75], [0.0, 1.0, 0.0]])
SCORES = torch.tensor([[0.5, 2.0, -1.0], [1.0, -0.5, 0.3]])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cross_entropy", {"class_weights": (1.0, 2.0, 3.0)}),
        ("cross_entropy", {"label_smoothing": 0.1}),
        ("nll", {"class_weights": (1.0, 2.0, 3.0)}),
        ("hinge", {"margin": 0.7}),
        ("bce", {}),
    ],
)
def test_a_loss_of_shares_of_labels_is_the_mean_over_the_labels(name, arguments):
    built = loss(name, **arguments)
    of_each = torch.stack([built(SCORES, torch.full((2,), label)) for label in range(3)], dim=1)
    assert torch.allclose(built(SCORES, SOFT), (of_each * SOFT).sum(1))


@pytest.mark.parametrize("name", ["squared", "l1", "smooth_l1"])
def test_a_distance_is_that_to_the_shares(name):
    built = loss(name)
    assert built(SCORES, SOFT)[1].item() == pytest.approx(built(SCORES, torch.tensor([0, 1]))[1].item())
    assert built(SOFT, SOFT).tolist() == [0, 0]
