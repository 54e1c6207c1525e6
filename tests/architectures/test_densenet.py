"""DenseNet: published counts, equality with torchvision, connections, and what is refused."""

import pytest
import torch
import torchvision
from pydantic import ValidationError
from torch import nn

from expflow.architectures import build, count
from expflow.architectures.densenet import DenseBlock, DenseLayer
from expflow.architectures.specs.densenet import DenseNetSpec
from expflow.errors import UserError
from tests.architectures.nets import IMAGENET, assert_equal_outputs, data, meta, params


def densenet(**arguments):
    return DenseNetSpec(name="densenet", **arguments)


@pytest.mark.parametrize(
    ("depth", "weights", "gmacs"),
    [(121, 7_978_856, 2.834), (161, 28_681_000, 7.728), (169, 14_149_480, 3.360), (201, 20_013_928, 4.291)],
)
def test_imagenet_nets_have_the_published_costs(depth, weights, gmacs):
    cost = count(densenet(layout="imagenet", depth=depth), IMAGENET)
    assert (cost.params, round(cost.macs / 1e9, 3)) == (weights, gmacs)


@pytest.mark.parametrize(
    ("arguments", "millions"),
    [
        ({"depth": 40, "bottleneck": 0, "compression": 1}, 1.0),
        ({"depth": 100, "bottleneck": 0, "compression": 1}, 7.0),
        ({"depth": 100}, 0.8),
        ({"depth": 250, "growth": 24}, 15.3),
        ({"depth": 190, "growth": 40}, 25.6),
    ],
)
def test_cifar_nets_have_the_millions_of_the_papers_table_2(arguments, millions):
    assert round(params(meta(densenet(**arguments), data())) / 1e6, 1) == millions


def test_with_torchvisions_weights_its_output():
    spec = densenet(layout="imagenet", depth=121)
    assert_equal_outputs(spec, lambda: torchvision.models.densenet121(weights=None))


def test_layers_read_all_before_them():
    block = DenseBlock(5, 6, densenet(layout=[5], growth=3)).eval()
    widths = []
    for layer in block:
        layer.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    x_bchw = torch.randn(1, 6, 4, 4)
    out = block(x_bchw)
    assert widths == [6, 9, 12, 15, 18]
    assert sum((width - 6) // 3 + 1 for width in widths) == 5 * 6 // 2  # L (L + 1) / 2 connections
    assert out.shape == (1, 21, 4, 4)
    assert torch.equal(out[:, :6], x_bchw)
    torch.testing.assert_close(out[:, 6:9], block[0](x_bchw))


def test_the_bottleneck_stands_before_the_3x3():
    for bottleneck, shapes in ((4, [(48, 20, 1, 1), (12, 48, 3, 3)]), (0, [(12, 20, 3, 3)])):
        layer = DenseLayer(20, densenet(layout=[1], growth=12, bottleneck=bottleneck))
        assert [tuple(module.weight.shape) for module in layer if isinstance(module, nn.Conv2d)] == shapes


@pytest.mark.parametrize(
    "arguments",
    [
        {"depth": 10},
        {"depth": 7, "bottleneck": 0, "dropout": 0.2},
        {"layout": [2, 3], "growth": 4, "compression": 0.3, "norm": "group", "activation": "silu"},
        {"layout": [1, 1], "stem": "deep", "stem_width": 5, "norm": "none"},
    ],
    ids=str,
)
def test_variants_train_on_images_of_8x8(arguments):
    network = build(densenet(**arguments), data(1, 8, 7))
    network(torch.randn(4, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert count(densenet(**arguments), data(1, 8, 7)).params == params(network)


def test_an_image_of_which_nothing_would_be_left_is_refused():
    spec = densenet(layout="imagenet", depth=121)
    with pytest.raises(UserError, match=r"cannot take images of 28x28 pixels.*it takes: 29x29; or take stem: cifar"):
        build(spec, data(3, 28))
    build(densenet(layout=[1, 1, 1, 1], stem="imagenet", growth=2), data(3, 29))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "missing"),
        ({"depth": 41}, "not 6n+4, as the cifar layout with bottleneck: 4 needs; nearest: 40 and 46"),
        ({"depth": 41, "bottleneck": 0}, "not 3n+4, as the cifar layout with bottleneck: 0 needs; nearest: 40 and 43"),
        ({"depth": 4}, "nearest: 10"),
        ({"layout": "imagenet", "depth": 150}, "121, 161, 169, 201; nearest: 121 and 161"),
        ({"layout": [6, 6], "depth": 121}, "leave it out"),
    ],
)
def test_depths_that_no_layout_has_are_refused(arguments, message):
    with pytest.raises(ValidationError) as raised:
        densenet(**arguments)
    error = raised.value.errors()[0]["ctx"]["error"]
    assert error.field == "depth"
    assert message in str(error)


def test_growth_and_stem_follow_the_layout():
    specs = [densenet(depth=40), densenet(layout="imagenet", depth=161), densenet(layout=[2])]
    assert [(spec.growth, spec.stem, spec.stem_channels) for spec in specs] == [
        (12, "cifar", 24),
        (48, "imagenet", 96),
        (32, "cifar", 64),
    ]
    assert densenet(depth=40, bottleneck=0).stem_channels == 16
