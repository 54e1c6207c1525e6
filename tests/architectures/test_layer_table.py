"""The layer table: the lectures' numbers, and its totals against the module itself."""

import math

import pytest
import torch
import torchvision
from torch import nn

from expflow.architectures import count
from expflow.architectures.accounting import count_parameters, multiply_adds
from expflow.architectures.layer_table import LayerTable, layer_rows, layer_table
from expflow.architectures.specs.mlp import MLPSpec
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.config.component_argument import parse_component
from expflow.config.spec import UserComponent
from expflow.errors import UserError
from expflow.registry import MODELS
from tests.architectures.nets import large as data
from tests.training import user_code


def table(network, channels=3, size=224):
    with torch.device("meta"):
        x = torch.zeros(1, channels, size, size)
        return LayerTable("net", (channels, size, size), tuple(layer_rows(network().eval(), x)))


def by_name(layers):
    return {row.layer: row for row in layers.rows}


class Functional(nn.Module):
    """Pools, attends and adds without modules of their own, and has a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.never = nn.Linear(5, 6)

    def forward(self, x_bchw):
        x = nn.functional.max_pool2d(torch.relu(self.conv(x_bchw)), 2)
        tokens = x.flatten(2).transpose(1, 2) + self.token
        scores = tokens @ tokens.transpose(1, 2)
        return scores.softmax(-1) @ tokens


# The lectures' table of the single-stream AlexNet: output; kernel, stride, padding; KB, parameters, multiply-adds,
# and operations of pools.
ALEXNET = [
    (
        (96, 55, 55),
        (11, 4, 0),
        (1134.375, 34_944, 105_415_200, 0),
    ),  # the slide prints pad 2, which would leave 56 pixels
    ((96, 27, 27), (3, 2, 0), (273.375, 0, 0, 629_856)),
    ((256, 27, 27), (5, 1, 2), (729.0, 614_656, 447_897_600, 0)),
    ((256, 13, 13), (3, 2, 0), (169.0, 0, 0, 389_376)),
    ((384, 13, 13), (3, 1, 1), (253.5, 885_120, 149_520_384, 0)),
    ((384, 13, 13), (3, 1, 1), (253.5, 1_327_488, 224_280_576, 0)),
    ((256, 13, 13), (3, 1, 1), (169.0, 884_992, 149_520_384, 0)),
    ((256, 6, 6), (3, 2, 0), (36.0, 0, 0, 82_944)),
    ((4096,), None, (16.0, 37_752_832, 37_748_736, 0)),
    ((4096,), None, (16.0, 16_781_312, 16_777_216, 0)),
    ((1000,), None, (3.90625, 4_097_000, 4_096_000, 0)),  # the slide prints 4,096 thousand parameters
]


@pytest.fixture(scope="module")
def alexnet():
    return layer_table(MODELS.spec("alexnet")(name="alexnet"), data(size=227))


def costly(layers):
    return [row for row in layers.rows if row.macs or row.pool_ops]


def test_alexnets_table_is_the_lectures(alexnet):
    actual = [
        (
            row.output,
            (row.kernel[0], row.stride[0], row.padding[0]) if row.kernel else None,
            (row.memory_kb, row.params, row.macs, row.pool_ops),
        )
        for row in costly(alexnet)
    ]
    assert actual == ALEXNET


def test_alexnets_totals(alexnet):
    assert alexnet.params == 62_378_344
    assert alexnet.macs == 1_135_256_096
    assert alexnet.macs + alexnet.pool_ops == 1_136_358_272
    assert alexnet.memory_kb == pytest.approx(3053.7, abs=0.05)


def test_alexnets_units(alexnet):
    units = sum(math.prod(row.output) for row in alexnet.rows if row.macs)
    assert units == 659_272  # slides: 650,000, as the paper rounds


def test_what_the_lecture_says_of_alexnet_by_its_shares(alexnet):
    rows = costly(alexnet)
    dense = sum(row.params for row in rows if row.kernel is None)
    convolved = sum(row.macs for row in rows if row.kernel is not None)
    assert dense / alexnet.params == pytest.approx(0.940, abs=5e-4)  # nearly all parameters
    assert convolved / alexnet.macs == pytest.approx(0.948, abs=5e-4)  # most multiply-adds
    assert rows[0].memory_kb + rows[2].memory_kb > alexnet.memory_kb / 2  # most memory in early convolutions


def test_alexnets_receptive_fields(alexnet):
    fields = [row.field[0] for row in costly(alexnet)]
    assert fields == [11, 19, 51, 67, 99, 131, 163, 195, 227, 227, 227]  # fully connected: the whole image


@pytest.mark.parametrize(("layers", "field"), [(1, 3), (2, 5), (3, 7)])
def test_the_field_of_stacked_3x3_convolutions_is_1_plus_2l(layers, field):
    stack = table(lambda: nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers)]), size=16)
    assert stack.rows[-1].field == (field, field)


def test_strides_dilation_and_kernels_that_are_not_square():
    def network():
        return nn.Sequential(
            nn.Conv2d(3, 8, 7, 2, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 8, 3, dilation=2)
        )

    rows = table(network).rows
    assert [row.field for row in rows] == [(7, 7), (11, 11), (11, 19), (27, 35)]
    assert rows[2].kernel == (1, 3)
    assert rows[1].pool_ops == 8 * 56 * 56 * 9


def test_the_lectures_stem_of_googlenet():
    def stem():
        return nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(64, 64, 1, bias=False),
            nn.Conv2d(64, 192, 3, padding=1, bias=False),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )

    layers = table(stem)
    assert [row.memory_kb for row in layers.rows] == [3136, 784, 784, 2352, 588]
    assert [row.params for row in layers.rows] == [9_408, 0, 4_096, 110_592, 0]
    millions = [(row.macs + row.pool_ops) / 1e6 for row in layers.rows]
    assert millions == pytest.approx([118.01, 1.81, 12.85, 346.82, 1.35], abs=0.006)
    assert layers.memory_kb == 7644
    assert layers.params == 124_096
    # the slide sums its rows, which are right, to 418: they are 481
    assert (layers.macs + layers.pool_ops) / 1e6 == pytest.approx(480.8, abs=0.05)


def test_vgg16_down_to_28_pixels_beside_that_stem():
    rows = layer_table(MODELS.spec("vgg")(name="vgg", depth=16), data()).rows
    first = next(n for n, row in enumerate(rows) if row.output and row.output[-1] == 28)
    rows = [row for row in rows[: first + 1] if row.macs or row.pool_ops]
    assert [row.macs > 0 for row in rows] == [True, True, False] * 2 + [True, True, True, False]
    megabytes = [sum(row.memory_kb for row in some) / 1024 for some in (rows, [row for row in rows if row.macs])]
    assert megabytes == pytest.approx([51.3, 45.9], abs=0.05)  # the slide's 42.9 leaves conv3_3 and the pools out
    params, macs = sum(row.params for row in rows), sum(row.macs for row in rows)
    assert params == 1_735_488  # slide: 1.1 M
    assert macs / 1e6 == pytest.approx(9_335, abs=0.5)  # slide: 7,485
    assert (macs + sum(row.pool_ops for row in rows)) / 1e6 == pytest.approx(9_341, abs=0.5)
    ratios = [megabytes[0] / (7_644 / 1024), params / 124_096, macs / 1e6 / 480.8]
    assert ratios == pytest.approx([6.9, 14.0, 19.4], abs=0.05)  # slide: 5.7, 8.9 and 17.8


def test_the_lectures_tail_of_googlenet():
    rows = layer_table(MODELS.spec("googlenet")(name="googlenet"), data()).rows
    pool, head = [row for row in rows if row.layer in ("pool", "head")]
    assert (pool.input, pool.output, pool.memory_kb, pool.params) == ((1024, 7, 7), (1024, 1, 1), 4, 0)
    assert (head.params, head.macs) == (1_025_000, 1_024_000)


def test_a_residual_block_sees_what_its_longest_path_sees():
    block = torchvision.models.resnet.BasicBlock
    rows = table(lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), block(8, 8), nn.Conv2d(8, 8, 1)), size=16).rows
    assert rows[-1].field == (7, 7)


def test_a_layer_that_runs_twice_has_two_rows_and_its_parameters_once():
    def network():
        shared = nn.Conv2d(3, 3, 1)
        return nn.Sequential(shared, nn.ReLU(), shared)

    layers = table(network, size=4)
    assert [row.params for row in layers.rows] == [12, 0, 0]
    assert [row.macs for row in layers.rows] == [144, 0, 144]


def test_what_a_module_computes_by_itself_has_rows():
    layers = table(Functional, size=8)
    rows = by_name(layers)
    assert rows["max_pool2d"].pool_ops == 4 * 16 * 4
    assert rows["max_pool2d"].kernel == (2, 2)
    assert [row.macs for row in layers.rows if row.layer == "matmul"] == [16 * 16 * 4] * 2
    assert rows["parameters"].params == 4
    assert rows["matmul"].field is None


def test_a_layer_that_does_not_run_stands_at_the_end():
    last = table(Functional, size=8).rows[-1]
    assert (last.layer, last.params, last.output, last.macs) == ("never", 36, None, 0)


def test_multi_head_attention_is_one_layer():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(512, 8, batch_first=True)

        def forward(self, x_bchw):
            tokens = x_bchw.flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens)[0]

    (row,) = table(Attends, 512, 4).rows
    assert row.params == 1_050_624
    assert row.macs == 16 * 512 * 512 * 4 + 2 * 16 * 16 * 512


@pytest.mark.parametrize(
    "name",
    ["squeezenet1_0", "shufflenet_v2_x0_5", "densenet121", "vit_b_16", "swin_t", "convnext_tiny", "efficientnet_b0"],
)
def test_totals_are_the_modules(name):
    with torch.device("meta"):
        network = torchvision.models.get_model(name).eval()
        x = torch.zeros(1, 3, 224, 224)
        layers = LayerTable(name, (3, 224, 224), tuple(layer_rows(network, x)))
        assert layers.params == count_parameters(network)
        assert layers.macs == multiply_adds(network, x)


def test_the_table_and_the_count_of_a_spec_agree():
    for spec in (MLPSpec(name="mlp", depth=2), ResNetSpec(name="resnet", depth=8)):
        layers, counted = layer_table(spec, data(size=32, classes=10)), count(spec, data(size=32, classes=10))
        assert (layers.params, layers.macs) == (counted.params, counted.macs)


def test_the_users_own_network_has_a_table_even_if_it_looks_at_its_values():
    layers = layer_table(UserComponent(name=f"{user_code.__name__}:Looks"), data(1, 8, 10))
    assert layers.macs == 64 * 10


def test_a_network_that_cannot_take_the_image_says_why():
    with pytest.raises(UserError, match=r"model tests.training.user_code:Net cannot take this data \(1x10x10\)"):
        layer_table(UserComponent(name=f"{user_code.__name__}:Net"), data(1, 10))


def test_a_network_keeps_its_mode_and_loses_its_hooks():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout()).train()
    layer_rows(network, torch.zeros(1, 3, 2, 2))
    assert network.training
    assert network[1].training
    assert not network[0]._forward_hooks
    assert not network[0]._forward_pre_hooks


def test_plain_data_of_a_table():
    plain = layer_table(MLPSpec(name="mlp", hidden=5), data(1, 8, 10)).to_json()
    assert plain["model"] == "mlp"
    assert plain["totals"]["params"] == 64 * 5 + 5 + 5 * 10 + 10
    assert [row["type"] for row in plain["rows"] if row["macs"]] == ["Linear", "Linear"]
    assert math.isclose(plain["totals"]["memory_kb"], (5 + 10) * 4 / 1024)


POOLS = {
    "adaptive": lambda: nn.AdaptiveAvgPool2d(1),
    "adaptive max": lambda: nn.AdaptiveMaxPool2d((1, 1)),
    "a window": lambda: nn.AvgPool2d(8),
    "a mean": lambda: Mean((2, 3)),
    "a mean from behind": lambda: Mean((-1, -2)),
    "a mean that keeps its axes": lambda: Mean((2, 3), keepdim=True),
    "a flattened map": lambda: nn.Flatten(),
}


class Mean(nn.Module):
    def __init__(self, dims, **options):
        super().__init__()
        self.dims, self.options = dims, options

    def forward(self, x_bchw):
        return x_bchw.mean(self.dims, **self.options)


class ChannelsLast(nn.Module):
    def forward(self, x_bchw):
        return x_bchw.permute(0, 2, 3, 1).mean((1, 2))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("padding", [0, 4])
def test_the_field_after_global_pooling_is_that_of_the_map_and_never_more_than_the_image(pool, padding):
    """Nine pixels of a padded map see more than an image of 8x8; of 16x16 images they see 15."""

    def network():
        convolution = nn.Conv2d(3, 4, 9, stride=1, padding=padding)
        head = nn.Linear(4 * 64, 5) if pool == "a flattened map" else nn.Identity()
        return nn.Sequential(convolution, POOLS[pool](), head)

    size = 8 if padding else 16
    row = next(row for row in reversed(table(network, size=size).rows) if row.field is not None)
    assert row.field == (size, size)


def test_the_field_after_a_mean_over_channels_last_is_the_same():
    rows = table(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), ChannelsLast(), nn.Linear(4, 5)), size=16).rows
    assert rows[-1].field == (16, 16)


def test_all_networks_with_global_pooling_agree():
    fields = {}
    for name in ("resnet18", "densenet121", "mobilenet_v1", "convmixer", "googlenet", "torchvision/resnet18"):
        rows = layer_table(parse_component("model", name), data()).rows
        fields[name] = [row.field for row in rows if row.output is not None][-1]
    assert set(fields.values()) == {(224, 224)}
