"""MobileNet v1 and ShuffleNet v1: published counts, equality with timm, what separable and shuffled mean."""

import pytest
import timm
import torch
from pydantic import ValidationError
from torch import nn

from expflow.architectures import build, count
from expflow.architectures.accounting import multiply_adds
from expflow.architectures.mobilenet_v1 import full_block, separable_block
from expflow.architectures.shufflenet_v1 import ChannelShuffle
from expflow.architectures.specs.mobilenet_v1 import MobileNetV1Spec
from expflow.architectures.specs.shufflenet_v1 import ShuffleNetV1Spec
from tests.architectures.nets import IMAGENET, assert_equal_outputs, data, meta, params


def mobilenet(**arguments):
    return MobileNetV1Spec(name="mobilenet_v1", **arguments)


def shufflenet(**arguments):
    return ShuffleNetV1Spec(name="shufflenet_v1", **arguments)


def test_mobilenet_has_the_published_costs():
    cost = count(mobilenet(), IMAGENET)
    assert (cost.params, round(cost.macs / 1e9, 3)) == (4_231_976, 0.569)


@pytest.mark.parametrize(
    ("arguments", "millions", "mmacs"),
    [
        ({"convolution": "full"}, 29.3, 4866),
        ({"width_factor": 0.75}, 2.6, 325),
        ({"width_factor": 0.5}, 1.3, 149),
        ({"width_factor": 0.25}, 0.5, 41),
        ({"depth": 0}, 2.9, 307),
    ],
)
def test_mobilenets_tables_4_to_6(arguments, millions, mmacs):
    cost = count(mobilenet(**arguments), IMAGENET)
    assert round(cost.params / 1e6, 1) == millions
    assert cost.macs / 1e6 == pytest.approx(mmacs, abs=1.5)  # the paper's tables cut digits off


def test_with_timms_weights_mobilenets_output():
    assert_equal_outputs(mobilenet(), lambda: timm.create_model("mobilenetv1_100", pretrained=False, act_layer=nn.ReLU))


def block_macs(kind, channels, size):
    with torch.device("meta"):
        block = nn.Sequential(kind(channels, channels, 1, "batch", "relu"))
        return multiply_adds(block, torch.zeros(1, channels, size, size))


def test_a_separable_convolution_costs_9c_plus_c2():
    assert block_macs(full_block, 64, 56) == 115_605_504 == 9 * 64**2 * 56**2
    assert block_macs(separable_block, 64, 56) == 14_651_392 == (9 * 64 + 64**2) * 56**2


@pytest.mark.parametrize(
    ("channels", "ratio"), [(16, 5.76), (32, 7.02), (64, 7.89), (128, 8.41), (256, 8.69), (512, 8.84), (1024, 8.92)]
)
def test_the_ratio_goes_to_9(channels, ratio):
    actual = block_macs(full_block, channels, 7) / block_macs(separable_block, channels, 7)
    assert actual == pytest.approx(9 * channels / (9 + channels))
    assert round(actual, 2) == ratio


def test_shufflenet_has_the_published_number_of_parameters():
    cost = count(shufflenet(groups=3), IMAGENET)
    assert (cost.params, round(cost.macs / 1e9, 3)) == (1_865_728, 0.137)


@pytest.mark.parametrize(
    ("groups", "weights", "mmacs"),
    [(1, 1_531_936, 143), (2, 1_733_848, 140), (3, 1_865_728, 137), (4, 1_968_344, 133), (8, 2_434_768, 137)],
)
def test_shufflenets_groups_cost_about_the_same(groups, weights, mmacs):
    cost = count(shufflenet(groups=groups), IMAGENET)
    assert cost.params == weights
    assert cost.macs / 1e6 == pytest.approx(mmacs, abs=1.5)  # as in table 1 of the paper


def test_channels_are_dealt_out_to_all_groups():
    x_bchw = torch.arange(12.0).view(1, 12, 1, 1)
    assert ChannelShuffle(3)(x_bchw).flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert torch.equal(ChannelShuffle(1)(x_bchw), x_bchw)


def test_without_shuffling_groups_never_meet():
    for shuffle, reached in ((True, 12), (False, 4)):
        unit = build(shufflenet(groups=3, shuffle=shuffle, width_factor=0.2, norm="none"), data()).stage2[1].eval()
        x_bchw = torch.rand(1, unit.conv1.in_channels, 4, 4, requires_grad=True)
        inside = unit.shuffle(unit.conv1(x_bchw))
        inside[:, : inside.shape[1] // 3].sum().backward()
        touched = (x_bchw.grad.abs().sum((0, 2, 3)) > 0).sum().item()
        assert touched == x_bchw.shape[1] * reached // 12


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("width_factor", [0.1, 0.25, 1.5])
def test_every_width_divides_by_the_groups(groups, width_factor):
    assert params(meta(shufflenet(groups=groups, width_factor=width_factor), data())) > 0


@pytest.mark.parametrize(
    "spec",
    [
        mobilenet(width_factor=0.25, stem="cifar"),
        mobilenet(width_factor=0.1, depth=0, norm="none", activation="gelu", dropout=0.1),
        mobilenet(width_factor=0.25, convolution="full", norm="layer"),
        shufflenet(width_factor=0.25, stem="cifar"),
        shufflenet(width_factor=0.25, groups=8, norm="layer", dropout=0.1),
    ],
    ids=lambda spec: str(spec.model_dump(exclude_defaults=True)),
)
def test_they_train_on_images_of_8x8(spec):
    network = build(spec, data(1, 8, 7))
    network(torch.randn(4, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert count(spec, data(1, 8, 7)).params == params(network)


def test_numbers_of_groups_that_the_paper_has_no_channels_for_are_refused():
    with pytest.raises(ValidationError, match="1, 2, 3, 4 or 8"):
        shufflenet(groups=5)
