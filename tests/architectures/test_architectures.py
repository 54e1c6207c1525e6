"""Networks: their parameters and multiply-adds by hand, their shapes, and what is refused."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from expflow.architectures import NetworkCost, build, count
from expflow.architectures.specs.linear import LinearSpec
from expflow.architectures.specs.mlp import MLPSpec
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.config.spec import UserComponent
from expflow.data.dataspec import FieldSpec
from expflow.errors import UserError
from expflow.registry import MODELS
from tests.architectures.nets import data
from tests.training import user_code

USER = user_code.__name__


def resnet(depth=20, **arguments):
    return ResNetSpec(name="resnet", depth=depth, **arguments)


REQUIRED = {"resnet": {"depth": 8}}


@pytest.mark.parametrize("name", ["linear", "mlp", "resnet"])
@pytest.mark.parametrize("shape", [(1, 8), (3, 9), (3, 32)])
def test_simple_networks_train_on_every_small_image(name, shape):
    spec = MODELS.spec(name)(name=name, **REQUIRED.get(name, {}))
    channels, size = shape
    network = build(spec, data(channels, size, classes=7))
    scores = network(torch.randn(2, channels, size, size))
    assert scores.shape == (2, 7)
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert count(spec, data(channels, size, classes=7)).params == sum(
        parameter.numel() for parameter in network.parameters()
    )


@pytest.mark.parametrize(("depth", "params"), [(20, 269_722), (56, 853_018), (110, 1_727_962)])
def test_residual_networks_have_the_published_number_of_parameters(depth, params):
    assert count(resnet(depth), data()).params == params


@pytest.mark.parametrize(("depth", "width", "channels", "size"), [(20, 16, 3, 32), (8, 4, 1, 8), (14, 5, 3, 9)])
def test_multiply_adds_of_a_residual_network_follow_from_its_table(depth, width, channels, size):
    blocks, half, quarter = (depth - 2) // 6, math.ceil(size / 2), math.ceil(size / 4)
    macs = size**2 * 9 * channels * width  # stem
    macs += size**2 * 9 * width**2 * 2 * blocks
    macs += half**2 * 9 * (width * 2 * width + (2 * width) ** 2 * (2 * blocks - 1))
    macs += quarter**2 * 9 * (2 * width * 4 * width + (4 * width) ** 2 * (2 * blocks - 1))
    macs += 4 * width * 10  # head
    assert count(resnet(depth, width=width), data(channels, size)).macs == macs


def test_options_a_and_b_and_the_plain_net_differ_by_the_projections_alone():
    pad, plain, projection = (count(resnet(shortcut=kind), data()) for kind in ("pad", "none", "projection"))
    assert plain == pad
    weights = 16 * 32 + 32 * 64
    assert projection.params - pad.params == weights + 2 * (32 + 64)  # and their batch norms
    assert projection.macs - pad.macs == 16**2 * 16 * 32 + 8**2 * 32 * 64


def test_counts_of_perceptrons_by_hand():
    assert count(LinearSpec(name="linear"), data(1, 8)) == NetworkCost(64 * 10 + 10, 64 * 10)
    two = MLPSpec(name="mlp", depth=2, hidden=5)
    assert count(two, data(1, 8)) == NetworkCost(64 * 5 + 5 + 5 * 5 + 5 + 5 * 10 + 10, 64 * 5 + 5 * 5 + 5 * 10)


def test_counting_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    count(resnet(), data())
    count(UserComponent(name=f"{USER}:Net"), data(1, 8))
    assert torch.equal(before, torch.get_rng_state())


def test_the_padded_shortcut_takes_every_second_pixel_and_adds_zeros():
    block = build(resnet(8), data()).layer2[0]
    x_bchw = torch.randn(2, 16, 5, 5)
    out = block.shortcut(x_bchw)
    assert torch.equal(out[:, :16], x_bchw[:, :, ::2, ::2])
    assert out.shape == (2, 32, 3, 3)
    assert out[:, 16:].abs().max() == 0


def test_a_plain_network_is_the_residual_one_without_the_sum():
    residual, plain = build(resnet(8), data()), build(resnet(8, shortcut="none"), data())
    plain.load_state_dict(residual.state_dict())
    x_bchw = torch.randn(2, 16, 8, 8)
    residual.eval(), plain.eval()
    inside = residual.layer1[0].bn2(
        residual.layer1[0].conv2(torch.relu(residual.layer1[0].bn1(residual.layer1[0].conv1(x_bchw))))
    )
    assert torch.allclose(plain.layer1[0](x_bchw), torch.relu(inside))
    assert torch.allclose(residual.layer1[0](x_bchw), torch.relu(inside + x_bchw))


def test_convolutions_are_drawn_as_he_et_al_say():
    weight = build(resnet(8, width=64), data()).layer1[0].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_with_zero_init_a_block_begins_as_its_shortcut():
    block = build(resnet(8, zero_init=True), data()).layer1[0].eval()
    x_bchw = torch.rand(2, 16, 8, 8)
    assert torch.equal(block(x_bchw), x_bchw)
    plain = build(resnet(8, zero_init=True, shortcut="none"), data()).layer1[0].eval()
    assert plain(x_bchw).abs().max() > 0


def test_parts_have_the_names_that_freezing_addresses():
    assert [name for name, _ in build(resnet(8), data()).named_children()] == [
        "stem", "layer1", "layer2", "layer3", "pool", "flatten", "head",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "nearest"), [(21, "20 and 26"), (9, "8 and 14"), (2, "8"), (1, "8"), (109, "104 and 110")]
)
def test_an_illegal_depth_is_refused_with_the_nearest_legal_ones(depth, nearest):
    with pytest.raises(ValidationError) as raised:
        resnet(depth)
    error = raised.value.errors()[0]["ctx"]["error"]
    assert error.field == "depth"
    assert str(error).endswith(f"nearest: {nearest}")


def test_the_users_own_network_is_sized_by_the_data_and_its_arguments():
    network = build(UserComponent(name=f"{USER}:Net", hidden=6), data(2, 8, 4))
    assert network.layers[0].weight.shape == (6, 2, 3, 3)
    assert network.layers[2].weight.shape == (4, 6 * 36)
    assert count(UserComponent(name=f"{USER}:Net", hidden=6), data(2, 8, 4)).macs == 36 * 9 * 2 * 6 + 6 * 36 * 4


def test_a_network_of_the_users_that_takes_more_than_an_image_is_counted_with_a_time_step_or_the_texts():
    spec = UserComponent(name=f"{USER}:Denoiser")
    assert count(spec, data(2, 8)).macs == 8 * 8 * 2 * 2
    text = FieldSpec((5,), "int64", kind="text", vocabulary=("<pad>", "<start>", "<end>", "a"))
    with_texts = replace(data(2, 8), fields={**data(2, 8).fields, "text": text})
    assert count(UserComponent(name=f"{USER}:Towers"), with_texts).macs == 5 * 3 * 4


def test_what_the_yaml_says_wins_over_what_the_data_say():
    assert build(UserComponent(name="torch.nn:Linear", in_features=3, out_features=2), data()).weight.shape == (2, 3)
    assert build(UserComponent(name=f"{USER}:Net", num_classes=2), data(1, 8)).layers[2].out_features == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (UserComponent(name=f"{USER}:Net", hiden=3), "hiden"),
        (UserComponent(name=f"{USER}:Nut"), "Nut"),
        (UserComponent(name="no_such_module:Net"), "no_such_module"),
        (UserComponent(name=f"{USER}:Net", hidden="wide"), "cannot be built"),
        (UserComponent(name=f"{USER}:blobs", samples=1, seed=1), "torch.nn.Module is needed"),
    ],
)
def test_a_network_that_cannot_be_built_says_why(spec, message):
    with pytest.raises(UserError, match=message):
        build(spec, data(1, 8))


def test_a_network_that_cannot_take_the_image_is_refused_with_the_reason():
    with pytest.raises(UserError, match=r"cannot take this data \(1x10x10\).*shapes cannot be multiplied"):
        count(UserComponent(name=f"{USER}:Net"), data(1, 10))


def test_a_network_that_does_not_run_on_the_meta_device_is_counted_for_real():
    assert count(UserComponent(name=f"{USER}:Looks"), data(1, 8)).macs == 64 * 10


def test_several_networks_have_the_sum_of_their_parameters_and_no_multiply_adds():
    slot = {"coder": UserComponent(name=f"{USER}:Coder"), "judge": UserComponent(name=f"{USER}:Judge")}
    nets = {name: build(spec, data(1, 8)) for name, spec in slot.items()}
    parts = {name: sum(parameter.numel() for parameter in net.parameters()) for name, net in nets.items()}
    assert count(slot, data(1, 8)) == NetworkCost(sum(parts.values()), None, parts)


def test_a_shared_weight_counts_once():
    from expflow.architectures.accounting import count_parameters

    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer)) == 12


def test_specs_and_packages_import_no_torch():
    modules = (
        "architectures, architectures.specs, losses, losses.specs, optim, optim.specs, tasks, tasks.specs, training"
    )
    code = (
        f"import sys, {', '.join('expflow.' + module for module in modules.split(', '))}; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
