"""Blocks by name: that each name is there, computes what it should, and says what else there is."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from expflow.architectures import blocks
from expflow.architectures.map_sizes import map_size, output_size, smallest_image_size
from expflow.architectures.specs import blocks as names
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import UnknownName, UserError
from tests.architectures.nets import data


@pytest.mark.parametrize(
    ("literal", "modules"),
    [
        (names.Activation, blocks.ACTIVATIONS),
        (names.Norm, blocks.NORMS),
        (names.FeatureNorm, blocks.FEATURE_NORMS),
        (names.Pool, blocks.POOLS),
        (names.Init, blocks.INITS),
    ],
)
def test_every_name_that_yaml_may_say_has_its_module(literal, modules):
    assert set(get_args(literal)) == set(modules)


@pytest.mark.parametrize(
    ("name", "at_minus_two", "at_three"),
    [
        ("sigmoid", 0.1192029, 0.9525741),
        ("tanh", -0.9640276, 0.9950548),
        ("relu", 0.0, 3.0),
        ("leaky_relu", -0.2, 3.0),  # max(0.1 t, t), as the courses have it
        ("elu", -0.8646647, 3.0),
        ("selu", -1.5201665, 3.1521030),
        ("gelu", -0.0455003, 2.9959502),
        ("silu", -0.2384058, 2.8577224),
        ("mish", -0.2525015, 2.9865350),
        ("hard_swish", -0.3333333, 3.0),
        ("softplus", 0.1269280, 3.0485873),
    ],
)
def test_activations_compute_their_formula(name, at_minus_two, at_three):
    out = blocks.activation(name)(torch.tensor([-2.0, 3.0]))
    assert out.tolist() == pytest.approx([at_minus_two, at_three], abs=1e-6)


def test_each_activation_has_its_value_in_the_test_above():
    (mark,) = test_activations_compute_their_formula.pytestmark
    assert {case[0] for case in mark.args[1]} == set(blocks.ACTIVATIONS)


def moments(x, dims):
    return x.mean(dims).abs().max().item(), (x.var(dims, correction=0) - 1).abs().max().item()


@pytest.mark.parametrize(
    ("name", "shape", "dims"),
    [
        ("batch", (4, 6, 5, 5), (0, 2, 3)),
        ("layer", (4, 6, 5, 5), (1, 2, 3)),
        ("instance", (4, 6, 5, 5), (2, 3)),
    ],
)
def test_norms_normalise_over_their_own_axes(name, shape, dims):
    torch.manual_seed(0)
    assert moments(blocks.norm2d(name, shape[1])(3 + 2 * torch.randn(shape)), dims) == pytest.approx((0, 0), abs=1e-3)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (6, 2), (7, 1), (96, 32)])
def test_group_norm_takes_a_number_of_groups_that_divides_the_channels(channels, groups):
    assert blocks.norm2d("group", channels).num_groups == groups


def test_every_norm_takes_maps_of_one_pixel_and_keeps_their_shape():
    x_bchw = torch.randn(2, 6, 1, 1)
    assert all(blocks.norm2d(name, 6)(x_bchw).shape == x_bchw.shape for name in blocks.NORMS)
    assert blocks.norm2d("none", 6)(x_bchw) is x_bchw


def test_local_response_normalisation_is_the_alexnet_papers_formula():
    torch.manual_seed(0)
    x_bchw = 20 * torch.randn(1, 7, 2, 3)
    expected = torch.empty_like(x_bchw)
    for i in range(7):  # section 3.3: the sum runs over the n = 5 neighbours, not their mean
        near = x_bchw[:, max(0, i - 2) : min(6, i + 2) + 1]
        expected[:, i] = x_bchw[:, i] / (2 + 1e-4 * near.square().sum(1)) ** 0.75
    assert torch.allclose(blocks.norm2d("local_response", 7)(x_bchw), expected, atol=1e-5)


def test_norms_of_vectors():
    torch.manual_seed(0)
    x_bf = 5 + 3 * torch.randn(8, 6)
    assert moments(blocks.norm1d("batch", 6)(x_bf), 0) == pytest.approx((0, 0), abs=1e-3)
    assert moments(blocks.norm1d("layer", 6)(x_bf), 1) == pytest.approx((0, 0), abs=1e-3)
    assert blocks.norm1d("none", 6)(x_bf) is x_bf


GRID = torch.tensor([[[[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]]]])


def test_pooling_by_hand():
    assert blocks.pool2d("max", 2)(GRID).tolist() == [[[[6, 8], [3, 4]]]]
    assert blocks.pool2d("average", 2)(GRID).tolist() == [[[[3.25, 5.25], [2, 2]]]]
    assert blocks.pool2d("max", 3, 1)(GRID).tolist() == [[[[7, 8], [7, 8]]]]
    assert blocks.pool2d("max", 3, 2)(GRID).shape[-2:] == (1, 1)
    assert blocks.pool2d("max", 3, 2, ceil=True)(GRID).tolist() == [[[[7, 8], [3, 4]]]]


@pytest.mark.parametrize(
    ("scheme", "std"),
    [
        ("he_fan_in", (2 / (9 * 64)) ** 0.5),
        ("he_fan_out", (2 / (9 * 128)) ** 0.5),
        ("xavier", (2 / (9 * (64 + 128))) ** 0.5),
        ("normal", 0.01),
        ("torch", (1 / (3 * 9 * 64)) ** 0.5),
    ],
)
def test_weights_have_the_variance_that_their_scheme_promises(scheme, std):
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 128, 3)
    blocks.init_weights(conv, scheme)
    assert conv.weight.std().item() == pytest.approx(std, rel=0.02)
    assert (conv.bias.abs().max() == 0) == (scheme != "torch")


def test_orthogonal_weights_are_orthogonal():
    linear = nn.Linear(6, 6)
    blocks.init_weights(nn.Sequential(linear), "orthogonal")
    assert torch.allclose(linear.weight @ linear.weight.T, torch.eye(6), atol=1e-5)


def test_no_dropout_is_no_layer():
    assert isinstance(blocks.dropout(0.0), nn.Identity)
    assert blocks.dropout(0.3).p == 0.3


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: blocks.activation("rellu"), "did you mean 'relu'.*sigmoid"),
        (lambda: blocks.norm2d("batchnorm", 4), "did you mean 'batch'.*instance"),
        (lambda: blocks.norm1d("group", 4), "batch, layer, none"),
        (lambda: blocks.pool2d("mean", 2), "average, max"),
        (lambda: blocks.init_weights(nn.Linear(1, 1), "he"), "he_fan_in"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(make, known):
    with pytest.raises(UnknownName, match=known):
        make()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "left"),
    [
        (10, 3, 1, 0, 8),
        (9, 5, 2, 0, 3),
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 3, 0, 2),  # (7 - 3) / 3 + 1 = 2.33: the slide calls it invalid, torch leaves the last column out
        (32, 5, 3, 0, 10),
        (32, 5, 1, 0, 28),
        (7, 3, 1, 1, 7),
        (28, 5, 1, 2, 28),  # the slide prints 32: it added 2 x 1 for a padding of 2 and did not subtract the kernel
        (6, 3, 1, 0, 4),
        (227, 11, 4, 0, 55),
        (2, 3, 1, 0, 0),
    ],
)
def test_output_sizes_follow_the_formula(size, kernel, stride, padding, left):
    assert output_size(nn.Conv2d(1, 1, kernel, stride, padding), size) == left


def test_output_sizes_are_those_of_torch_also_where_pooling_rounds_up():
    for size, kernel, stride, padding, ceil in itertools.product(
        range(1, 12), (2, 3), (1, 2, 3, 4), (0, 1), (False, True)
    ):
        pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
        expected = output_size(pool, size)
        x_bchw = torch.zeros(1, 1, size, size, device="meta")
        if expected > 0:
            assert pool(x_bchw).shape[-1] == expected
        else:
            with pytest.raises(RuntimeError, match=r"too small|smaller than"):
                pool(x_bchw)


def test_the_smallest_size_is_found_and_told():
    parts = [nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2)), nn.Conv2d(4, 4, 3)]
    assert smallest_image_size([parts[0][0], parts[0][2], parts[1]]) == 10
    assert map_size("net", parts, data(size=12)) == (2, 2)
    with pytest.raises(UserError, match=r"model net cannot take images of 9x9.*smallest that it takes: 10x10"):
        map_size("net", parts, data(size=9))


def test_an_image_that_is_not_square_keeps_its_shape():
    wide = DataSpec({"image": FieldSpec((3, 12, 20), "uint8")}, ("a", "b"))
    assert map_size("net", [nn.Conv2d(3, 4, 5, 2)], wide) == (4, 8)
    flat = DataSpec({"image": FieldSpec((3, 20, 4), "uint8")}, ("a", "b"))
    with pytest.raises(UserError, match=r"20x4 pixels.*5x5"):
        map_size("net", [nn.Conv2d(3, 4, 5, 2)], flat)


def test_no_spec_of_an_architecture_imports_torch():
    folder = Path(names.__file__).parent
    modules = [f"expflow.architectures.specs.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"]
    code = f"import importlib, sys; [*map(importlib.import_module, {modules})]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
