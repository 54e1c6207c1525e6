"""Losses against hand-worked values."""

import math

import pytest
import torch
from torch import nn

from expflow.config.spec import Foreign
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import build
from expflow.losses.specs import CrossEntropy

NO_DATA = DataSpec(fields={})


def test_cross_entropy_is_minus_the_log_of_the_labels_share():
    scores = torch.log(torch.tensor([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]))
    values = build(CrossEntropy(name="cross_entropy"), NO_DATA)(scores, torch.tensor([1, 0]))
    assert values.tolist() == pytest.approx([-math.log(2 / 8), -math.log(6 / 8)])


def test_smoothing_spreads_its_share_over_all_classes():
    scores = torch.log(torch.tensor([[1.0, 3.0]]))
    value = build(CrossEntropy(name="cross_entropy", label_smoothing=0.2), NO_DATA)(scores, torch.tensor([1]))
    assert value.item() == pytest.approx(-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4))


def test_a_loss_of_torchs_gives_one_value_per_sample():
    loss = build(Foreign(name="torch.nn:L1Loss"), NO_DATA)
    assert loss(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])).tolist() == [1, 3]


def test_the_yaml_may_choose_the_reduction():
    loss = build(Foreign(name="torch.nn:L1Loss", reduction="sum"), NO_DATA)
    assert loss(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])).item() == 4


def test_a_loss_that_asks_for_the_data_is_given_them():
    loss = build(Foreign(name="tests.training.user_code:ClassWeighted"), DataSpec({}, ("a", "b")))
    assert isinstance(loss, nn.Module)
    assert loss.weights.tolist() == [1, 2]


def test_what_cannot_be_called_is_no_loss():
    with pytest.raises(UserError, match="needed"):
        build(Foreign(name="builtins:dict", a=1), NO_DATA)
