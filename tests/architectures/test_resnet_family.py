"""The residual family: published counts, equality with torchvision and timm, cost formulas, and what is refused."""

import pytest
import timm
import torch
import torchvision
from pydantic import ValidationError
from torch import nn

from expflow.architectures import build, count
from expflow.architectures.accounting import multiply_adds
from expflow.architectures.blocks import StochasticDepth
from expflow.architectures.resnet import make_blocks
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.config import load
from expflow.config.components import recipe_from
from expflow.config.identity import config_id, dump
from expflow.config.schema import Recipe
from expflow.registry import TASKS
from tests.architectures.nets import IMAGENET, assert_equal_outputs, data, meta, params, weighted
from tests.config.files import BASE, problems, write


def resnet(**arguments):
    return ResNetSpec(name="resnet", **arguments)


def imagenet(depth, **arguments):
    return resnet(layout="imagenet", depth=depth, **arguments)


def refused(**arguments):
    """The field and the message with which ``arguments`` are refused."""
    with pytest.raises(ValidationError) as raised:
        resnet(**arguments)
    error = raised.value.errors()[0]["ctx"]["error"]
    return error.field, str(error)


def identifier(**arguments):
    return config_id(Recipe(task=TASKS.spec("classification")(name="classification"), model=resnet(**arguments)))


# Lectures print 3.6 for depth 34, which is cut off: 3.664.
@pytest.mark.parametrize(
    ("depth", "weights", "gmacs"),
    [
        (18, 11_689_512, 1.814),
        (34, 21_797_672, 3.664),
        (50, 25_557_032, 4.089),
        (101, 44_549_160, 7.801),
        (152, 60_192_808, 11.514),
        (200, 64_673_832, 15.007),
    ],
)
def test_imagenet_nets_have_the_published_costs(depth, weights, gmacs):
    cost = count(imagenet(depth), IMAGENET)
    assert (cost.params, round(cost.macs / 1e9, 3)) == (weights, gmacs)


@pytest.mark.parametrize(
    ("depth", "stages"),
    [(18, [4, 4, 4, 4]), (34, [6, 8, 12, 6]), (50, [9, 12, 18, 9]), (101, [9, 12, 69, 9]), (152, [9, 24, 108, 9])],
)
def test_stages_have_so_many_convolutions_and_with_stem_and_head_the_depth(depth, stages):
    network = meta(imagenet(depth), IMAGENET)
    actual = [
        sum(isinstance(module, nn.Conv2d) for path, module in stage.named_modules() if "shortcut" not in path)
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4)
    ]
    assert actual == stages
    assert 1 + sum(actual) + 1 == depth


def test_the_papers_stride_in_the_1x1_convolution_is_cheaper():
    cost = count(imagenet(50, stride_in="1x1"), IMAGENET)
    assert (cost.params, round(cost.macs / 1e9, 3)) == (25_557_032, 3.858)


RESNEXT = [
    (50, 1, 64, 25_557_032, 4.089),
    (50, 2, 40, 25_425_000, 4.125),
    (50, 4, 24, 25_292_968, 4.160),
    (50, 8, 14, 25_603_016, 4.267),
    (50, 32, 4, 25_028_904, 4.230),
    (101, 1, 64, 44_549_160, 7.801),
    (101, 2, 40, 44_456_296, 7.844),
    (101, 4, 24, 44_363_432, 7.886),
    (101, 8, 14, 45_104_328, 8.077),
    (101, 32, 4, 44_177_704, 7.970),
]


@pytest.mark.parametrize(("depth", "groups", "group_width", "weights", "gmacs"), RESNEXT)
def test_the_ten_resnext_rows(depth, groups, group_width, weights, gmacs):
    cost = count(imagenet(depth, groups=groups, group_width=group_width), IMAGENET)
    assert (cost.params, round(cost.macs / 1e9, 3)) == (weights, gmacs)


@pytest.mark.parametrize(("depth", "more"), [(50, 0.044), (101, 0.036)])
def test_resnexts_of_one_depth_cost_about_the_same(depth, more):
    (_, _, _, weights, gmacs), *others = [row for row in RESNEXT if row[0] == depth]
    assert max(abs(row[3] / weights - 1) for row in others) < 0.021
    assert max(abs(row[4] / gmacs - 1) for row in others) < more


@pytest.mark.parametrize(
    ("arguments", "weights", "gmacs"),
    [
        ({"depth": 50, "width_factor": 2}, 68_883_240, 11.398),
        ({"depth": 101, "width_factor": 2}, 126_886_696, 22.753),
        ({"depth": 50, "se_ratio": 16}, 28_088_024, 4.092),
        ({"depth": 152, "se_ratio": 16}, 66_821_848, 11.520),
        ({"depth": 152, "preactivation": True}, 60_185_128, 11.514),
    ],
)
def test_wide_squeezed_and_preactivated_nets_have_the_published_costs(arguments, weights, gmacs):
    cost = count(imagenet(**arguments), IMAGENET)
    assert (cost.params, round(cost.macs / 1e9, 3)) == (weights, gmacs)


@pytest.mark.parametrize(
    ("depth", "weights", "gmacs"),
    [
        (20, 269_722, 0.0406),
        (32, 464_154, 0.0689),
        (44, 658_586, 0.0972),
        (56, 853_018, 0.1255),
        (110, 1_727_962, 0.2529),
    ],
)
@pytest.mark.parametrize("shortcut", ["none", "pad"])
def test_cifar_nets_have_the_published_costs_with_and_without_shortcuts(depth, weights, gmacs, shortcut):
    cost = count(resnet(depth=depth, shortcut=shortcut), data())
    assert (cost.params, round(cost.macs / 1e9, 4)) == (weights, gmacs)


def test_wide_resnet_28_10():
    # 28 counts the projections in (6n + 4); 36.5M in table 4 of the paper
    wide = resnet(depth=26, width_factor=10, preactivation=True, shortcut="projection")
    assert params(meta(wide, data())) == 36_479_194


@pytest.mark.parametrize(("depth", "weights", "millions"), [(164, 1_661_274, 1.7), (1001, 10_285_722, 10.2)])
def test_bottleneck_nets_of_the_preactivation_paper(depth, weights, millions):
    actual = params(meta(resnet(depth=depth, block="bottleneck", preactivation=True), data()))
    assert actual == weights == pytest.approx(millions * 1e6, abs=1e5)


def test_preactivation_200_agrees_with_timm():
    layers = timm.layers
    with torch.device("meta"):
        theirs = timm.models.resnetv2.ResNetV2(
            (3, 24, 36, 3), conv_layer=layers.create_conv2d, norm_layer=layers.BatchNormAct2d
        )
    assert params(meta(imagenet(200, preactivation=True), IMAGENET)) == params(theirs)


@pytest.mark.parametrize(
    ("arguments", "theirs"),
    [
        ({"depth": 18}, torchvision.models.resnet18),
        ({"depth": 50}, torchvision.models.resnet50),
        ({"depth": 50, "groups": 32, "group_width": 4}, torchvision.models.resnext50_32x4d),
        ({"depth": 50, "width_factor": 2}, torchvision.models.wide_resnet50_2),
    ],
)
def test_with_torchvisions_weights_its_output(arguments, theirs):
    assert_equal_outputs(imagenet(**arguments), lambda: theirs(weights=None))


@pytest.mark.parametrize(("arguments", "theirs"), [({"se_ratio": 16}, "seresnet50"), ({"stem": "deep"}, "resnet50c")])
def test_with_timms_weights_its_output(arguments, theirs):
    assert_equal_outputs(imagenet(50, **arguments), lambda: timm.create_model(theirs, pretrained=False))


def projections_last(theirs):
    """The layers of timm's net, which lists a block's projection before its convolutions."""
    actual = []
    for block in theirs.stages.modules():
        if isinstance(block, timm.models.resnetv2.PreActBottleneck):
            own = weighted(block)
            first = [conv for conv in own if block.downsample is not None and conv is block.downsample.conv]
            actual += [conv for conv in own if conv not in first] + first
    return [*weighted(theirs.stem), *actual, theirs.norm, *weighted(theirs.head)]


def test_preactivation_with_timms_weights_its_output():
    spec = imagenet(50, preactivation=True)
    assert_equal_outputs(spec, lambda: timm.create_model("resnetv2_50", pretrained=False), order=projections_last)


def block_macs(channels, size, **arguments):
    """Multiply-adds of one block that keeps ``channels`` on maps of ``size``."""
    with torch.device("meta"):
        (_, block), *_ = make_blocks(resnet(layout=[2], stem="cifar", **arguments))
        return multiply_adds(block, torch.zeros(1, channels, size, size))


@pytest.mark.parametrize(("width", "size"), [(64, 56), (16, 8)])
def test_a_basic_block_costs_18_and_a_bottleneck_17_times_hwc2(width, size):
    assert block_macs(width, size, width=width) == 18 * size**2 * width**2
    assert block_macs(4 * width, size, width=width, block="bottleneck") == 17 * size**2 * width**2


def test_convolutions_at_the_bottlenecks_end_cost_a_tenth():
    # 256 channels: one 3x3 convolution 589,824 per pixel, the whole bottleneck 69,632
    assert block_macs(256, 1, width=64, block="bottleneck") == 16_384 + 36_864 + 16_384 == 69_632
    assert block_macs(256, 1, width=256) == 2 * 589_824


@pytest.mark.parametrize(
    ("groups", "width", "macs", "ratio"),
    [(1, 64, 69_632, 1.0), (2, 40, 69_760, 1.0018), (4, 24, 69_888, 1.0037), (8, 14, 71_456, 1.0262),
     (32, 4, 70_144, 1.0074)],
)  # fmt: skip
def test_resnexts_groups_keep_the_cost_within_3_percent(groups, width, macs, ratio):
    actual = block_macs(256, 1, width=64, block="bottleneck", groups=groups, group_width=width)
    assert actual == macs == groups * (4 * 64 * width + 9 * width**2 + 4 * 64 * width)
    assert round(actual / 69_632, 4) == ratio
    assert ratio <= 1.03


@pytest.mark.parametrize(("groups", "weights"), [(1, 36_864), (2, 18_432), (4, 9_216), (64, 576)])
def test_grouped_convolutions_have_one_gth_of_the_weights(groups, weights):
    # G x (C_out / G) x (C_in / G) x K x K; a lecture that prints G x C_in forgets to divide
    net = meta(resnet(layout=[1], block="bottleneck", groups=groups), data())
    assert net.layer1[0].conv2.weight.numel() == weights


VARIANTS = [
    {"block": "bottleneck", "depth": 11},
    {"block": "bottleneck", "depth": 11, "preactivation": True, "groups": 4},
    {"depth": 8, "preactivation": True, "shortcut": "none"},
    {"depth": 8, "se_ratio": 4, "shortcut": "projection", "norm": "group"},
    {"depth": 8, "stem": "deep", "norm": "none", "activation": "gelu", "se_ratio": 16},
    {"depth": 8, "norm": "local_response", "activation": "tanh", "init": "xavier"},
    {"depth": 8, "dropout": 0.3, "stochastic_depth": 0.3, "width_factor": 2, "norm": "layer"},
    {"depth": 50, "layout": "imagenet", "se_ratio": 16, "preactivation": True, "width": 8},
    {"depth": 18, "layout": "imagenet", "stem": "cifar", "width": 4},
    {"layout": [1, 1], "width": 4, "norm": "instance"},
    {"layout": [{"blocks": 1, "width": 6}, {"blocks": 2, "stride": 1}, 1], "zero_init": True, "width": 8},
]


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_every_variant_trains_on_images_of_8x8(arguments):
    network = build(resnet(**arguments), data(1, 8, 7))
    scores = network(torch.randn(4, 1, 8, 8))
    assert scores.shape == (4, 7)
    scores.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("arguments", VARIANTS[:4], ids=str)
def test_the_table_of_a_variant_counts_its_real_weights(arguments):
    assert count(resnet(**arguments), data(1, 8)).params == params(build(resnet(**arguments), data(1, 8)))


@pytest.mark.parametrize(
    "arguments", [{"preactivation": True}, {"norm": "none"}, {"norm": "group"}, {"block": "bottleneck", "depth": 20}]
)
def test_zero_init_lets_every_kind_of_block_begin_as_its_shortcut(arguments):
    block = build(resnet(**{"depth": 14, **arguments}, zero_init=True), data()).layer3[-1].eval()
    x_bchw = torch.rand(2, 64 * (4 if block.convolutions == 3 else 1), 8, 8)
    torch.testing.assert_close(block(x_bchw), x_bchw)


def test_preactivation_sums_untouched_inputs_but_where_shapes_change():
    network = build(resnet(depth=14, preactivation=True), data()).eval()
    same, changes = network.layer1[1], network.layer2[0]
    x_bchw = torch.randn(2, 16, 8, 8)
    inside = torch.relu(same.bn1(x_bchw))
    torch.testing.assert_close(same(x_bchw), x_bchw + same.conv2(torch.relu(same.bn2(same.conv1(inside)))))
    inside = torch.relu(changes.bn1(x_bchw))
    branch = changes.conv2(torch.relu(changes.bn2(changes.conv1(inside))))
    torch.testing.assert_close(changes(x_bchw), branch + changes.shortcut(inside))


def test_stochastic_depth_rises_linearly_and_sleeps_in_eval_mode():
    network = build(resnet(depth=14, stochastic_depth=0.6), data())
    drops = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert drops == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    block, x_bchw = network.layer3[1], torch.rand(64, 64, 4, 4)
    kept = (block(x_bchw) != torch.relu(x_bchw)).flatten(1).any(1)
    assert 0 < kept.sum() < 64
    assert (block.eval()(x_bchw) != torch.relu(x_bchw)).flatten(1).any(1).all()


def test_dropout_stands_before_each_blocks_last_convolution():
    block = build(resnet(depth=8, dropout=0.5), data()).layer1[0]
    seen = []
    block.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(torch.ones(2, 16, 8, 8))
    inside = torch.relu(block.bn1(block.conv1(seen[0])))
    assert ((seen[1] == 0) & (inside > 0)).any()


def test_squeeze_and_excitation_has_2c2_over_r_weights():
    plain, squeezed = (params(meta(resnet(layout=[1], se_ratio=r), data())) for r in (0, 16))
    assert squeezed - plain == 2 * 64**2 // 16 + 4 + 64  # and two biases


def test_without_a_norm_convolutions_have_biases():
    bias = [module.bias is not None for module in meta(resnet(depth=8, norm="none"), data()).modules()
            if isinstance(module, nn.Conv2d)]  # fmt: skip
    assert bias == [True] * 7


def test_defaults_follow_the_layout_and_the_depth():
    for arguments, expected in [
        ({"depth": 20}, ("basic", 16, "pad", "cifar")),
        ({"layout": "imagenet", "depth": 34}, ("basic", 64, "projection", "imagenet")),
        ({"layout": "imagenet", "depth": 50}, ("bottleneck", 64, "projection", "imagenet")),
        ({"layout": [1, 1]}, ("basic", 64, "projection", "cifar")),
        ({"layout": "imagenet", "depth": 18, "width": None, "shortcut": "none"}, ("basic", 64, "none", "imagenet")),
    ]:
        spec = resnet(**arguments)
        assert (spec.block, spec.width, spec.shortcut, spec.stem) == expected


def test_a_default_written_out_changes_no_id():
    assert identifier(depth=20) == identifier(
        layout="cifar", depth=20, width=16, shortcut="pad", block="basic", stem="cifar", groups=1
    )
    usual = {"layout": "imagenet", "depth": 50}
    written = {**usual, "width": 64, "shortcut": "projection", "block": "bottleneck", "stem": "imagenet"}
    assert identifier(**usual) == identifier(**written)
    assert identifier(**usual) != identifier(**usual, width=16)
    assert identifier(**usual) != identifier(**usual, shortcut="pad")
    assert dump(resnet(**usual))["width"] == 64
    assert ResNetSpec(**dump(resnet(**usual))) == resnet(**usual)


def test_a_list_of_stages_can_be_written_in_a_file(tmp_path):
    own = "{name: resnet, layout: [2, {blocks: 1, width: 24, stride: 1}, {blocks: 3}], width: 8}"
    loaded = load(write(tmp_path, BASE.replace("{name: resnet, depth: 20}", own))).experiment.recipe
    assert [(stage.blocks, stage.stride, stage.channels) for stage in loaded.model.stages] == [
        (2, 1, 8),
        (1, 1, 24),
        (3, 2, 48),
    ]
    assert recipe_from(dump(loaded), tmp_path) == loaded
    wrong = BASE.replace("{name: resnet, depth: 20}", own.replace("width: 24", "widht: 24"))
    assert problems(tmp_path, wrong) == [
        "exp.yaml:2:23: model.layout.1.widht: unknown key; expected blocks, width, stride"
    ]


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        ({}, "depth", "missing; expected layers with weights"),
        ({"depth": 21}, "depth", "not 6n+2, as the cifar layout needs; nearest: 20 and 26"),
        ({"depth": 21, "block": "bottleneck"}, "depth", "not 9n+2, as the cifar layout with bottleneck blocks needs;"
         " nearest: 20 and 29"),
        ({"layout": "imagenet", "depth": 51}, "depth", "18, 34, 50, 101, 152, 200; nearest: 50 and 101"),
        ({"layout": "imagenet", "depth": 34, "block": "bottleneck"}, "depth", "with bottleneck blocks: 50, 101, 152,"
         " 200; nearest: 50"),
        ({"layout": "imagenet", "depth": 50, "block": "basic"}, "depth", "with basic blocks: 18, 34; nearest: 34"),
        ({"layout": [2, 0]}, "1", "expected the blocks of a stage, a whole number from 1 to 10,000, or a mapping"),
        ({"layout": ["x"]}, "0", "found 'x'"),
        ({"layout": [{"blocks": 2, "widht": 3}]}, "0.widht", "unknown key; expected blocks, width, stride"),
        ({"layout": [1, {"width": 3}]}, "1.blocks", "missing"),
        ({"layout": [{"blocks": True}]}, "0.blocks", "valid integer, found True"),
        ({"layout": [2, 2], "depth": 10}, "depth", "leave it out"),
        ({"depth": 20, "groups": 4}, "groups", "bottleneck blocks, these are basic"),
        ({"depth": 20, "group_width": 4}, "group_width", "bottleneck blocks, these are basic"),
        ({"depth": 20, "stride_in": "1x1"}, "stride_in", "bottleneck blocks, these are basic"),
        ({"depth": 20, "block": "bottleneck", "groups": 6}, "groups", "6 groups do not divide the 16, 32, 64 channels"
         " of the stages; nearest: 4 and 8"),
        ({"depth": 20, "se_ratio": 17}, "se_ratio", "leaves nothing of 16 channels; nearest: 16"),
        ({"layout": [{"blocks": 1, "width": 32}], "shortcut": "pad"}, "shortcut", "channels, but they fall"),
        ({"depth": 20, "shortcut": "none", "stochastic_depth": 0.1}, "stochastic_depth", "plain net"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_nearest_legal_value(arguments, field, message):
    actual, text = refused(**arguments)
    assert actual == field
    assert message in text
