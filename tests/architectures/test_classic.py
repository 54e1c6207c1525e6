"""The classic nets: their published counts, the tables of lectures, agreement with torchvision, and what is refused.

Where a slide prints something else than the right value, the right one is here and a comment says so.
"""

import pickle

import pytest
import torch
import torchvision
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from expflow.architectures import NetworkCost, build, count
from expflow.architectures.accounting import count_parameters, multiply_adds
from expflow.architectures.alexnet import layout as alexnet_layout
from expflow.architectures.blocks import ACTIVATIONS, FEATURE_NORMS, INITS, NORMS
from expflow.architectures.convnet import Conv, Pool, build_layout
from expflow.architectures.googlenet import STAGES, stage_widths
from expflow.architectures.lenet5 import C3_TABLE, TableConv
from expflow.architectures.map_sizes import smallest_image_size, window_layers
from expflow.architectures.outputs import WithAuxiliary
from expflow.errors import UserError
from expflow.registry import MODELS
from tests.architectures.nets import large as data

SMALL_HEAD = {"head": (8,)}


def spec(name, **arguments):
    return MODELS.spec(name)(name=name, **arguments)


def meta(name, data_spec, **arguments):
    with torch.device("meta"):
        return build(spec(name, **arguments), data_spec).eval()


def copy(ours, theirs):
    """Give ``ours`` the tensors of ``theirs``, in order; every shape must agree."""
    mine, given = ours.state_dict(), theirs.state_dict()
    assert [tensor.shape for tensor in mine.values()] == [tensor.shape for tensor in given.values()]
    ours.load_state_dict(dict(zip(mine, given.values(), strict=True)), assign=True)


def shapes(network, x_bchw):
    """Name of each direct part, and the shape of one sample after it."""
    actual = {}
    for name, part in network.named_children():
        x_bchw = part(x_bchw)
        actual[name] = tuple(x_bchw.shape[1:])
    return actual


@pytest.mark.parametrize(
    ("name", "arguments", "image", "params", "macs"),
    [
        ("alexnet", {}, (3, 227, 1000), 62_378_344, 1_135_256_096),
        ("alexnet", {"streams": 2}, (3, 227, 1000), 60_965_224, 724_406_816),
        ("zfnet", {}, (3, 224, 1000), 62_357_608, 1_168_032_896),
        ("zfnet", {"widths": "lecture"}, (3, 224, 1000), 107_627_624, 2_476_704_896),
        ("vgg", {"depth": "M"}, (3, 224, 1000), 102_908_520, 1_676_172_320),
        ("vgg", {"depth": 11}, (3, 224, 1000), 132_863_336, 7_609_090_048),
        ("vgg", {"depth": 13}, (3, 224, 1000), 133_047_848, 11_308_466_176),
        ("vgg", {"depth": 16}, (3, 224, 1000), 138_357_544, 15_470_264_320),  # the slide's 13.6 G omits conv1_2
        ("vgg", {"depth": 19}, (3, 224, 1000), 143_667_240, 19_632_062_464),
        ("googlenet", {"norm": "batch", "large_kernel": 3}, (3, 224, 1000), 13_004_888, 1_498_376_192),
        (
            "googlenet",
            {"norm": "batch", "large_kernel": 3, "auxiliary": False},
            (3, 224, 1000),
            6_624_904,
            1_498_376_192,
        ),
        ("lenet5", {}, (1, 32, 10), 61_706, 416_520),
        ("lenet5", {"padding": 2}, (1, 28, 10), 61_706, 416_520),
        ("lenet5", {"c3": "table"}, (1, 32, 10), 60_806, 326_520),
        ("lecture_net", {}, (1, 28, 10), 21_840, 480_500),
    ],
)
def test_published_counts(name, arguments, image, params, macs):
    assert count(spec(name, **arguments), data(*image)) == NetworkCost(params, macs)


ALEXNET = [
    # name, shape, parameters with bias, multiply-adds
    ("conv1", (96, 55, 55), 34_944, 105_415_200),
    ("pool1", (96, 27, 27), 0, 0),
    ("conv2", (256, 27, 27), 614_656, 447_897_600),
    ("pool2", (256, 13, 13), 0, 0),
    ("conv3", (384, 13, 13), 885_120, 149_520_384),
    ("conv4", (384, 13, 13), 1_327_488, 224_280_576),
    ("conv5", (256, 13, 13), 884_992, 149_520_384),
    ("pool5", (256, 6, 6), 0, 0),
    ("flatten", (9216,), 0, 0),
    ("fc6", (4096,), 37_752_832, 37_748_736),
    ("fc7", (4096,), 16_781_312, 16_777_216),
    ("head", (1000,), 4_097_000, 4_096_000),  # the slide prints 4,096 k parameters: without the bias
]


def test_alexnet_is_the_lectures_table_row_by_row():
    network = meta("alexnet", data(size=227))
    x_bchw = torch.zeros(1, 3, 227, 227, device="meta")
    after = shapes(network, x_bchw)
    kib = 0.0
    for name, shape, params, macs in ALEXNET:
        part = getattr(network, name)
        assert (after[name], count_parameters(part)) == (shape, params)
        if params:  # every output pixel costs all weights of its filter
            pixels = shape[1] * shape[2] if len(shape) == 3 else 1
            assert part.weight.numel() * pixels == macs
        if name != "flatten":
            kib += torch.Size(shape).numel() * 4 / 1024
    assert kib == pytest.approx(3053.7, abs=0.05)
    assert sum(row[2] for row in ALEXNET) == 62_378_344
    assert sum(row[3] for row in ALEXNET) == 1_135_256_096


def test_the_claims_about_alexnet_as_shares():
    fully, conv = ALEXNET[-3:], ALEXNET[:7]
    assert sum(row[2] for row in fully) / 62_378_344 == pytest.approx(0.940, abs=5e-4)
    assert sum(row[3] for row in conv) / 1_135_256_096 == pytest.approx(0.948, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "weights", "mega_macs", "with_bias"),
    [
        ("conv1", 34_848, 105.42, 34_944),
        ("conv2", 307_200, 223.95, 307_456),
        ("conv3", 884_736, 149.52, 885_120),
        ("conv4", 663_552, 112.14, 663_936),  # the slide's 1.3 M is that of the single stream
        ("conv5", 442_368, 74.76, 442_624),
        ("fc6", 37_748_736, 37.75, 37_752_832),
        ("fc7", 16_777_216, 16.78, 16_781_312),
        ("head", 4_096_000, 4.10, 4_097_000),
    ],
)
def test_two_streams_row_by_row(name, weights, mega_macs, with_bias):
    network = meta("alexnet", data(size=227), streams=2)
    part = getattr(network, name)
    shape = shapes(network, torch.zeros(1, 3, 227, 227, device="meta"))[name]
    assert (part.weight.numel(), count_parameters(part)) == (weights, with_bias)
    pixels = shape[1] * shape[2] if len(shape) == 3 else 1
    assert weights * pixels / 1e6 == pytest.approx(mega_macs, abs=0.005)


def test_what_slides_print_of_two_streams_is_cut_off():
    assert 105 + 223 + 149 + 112 + 74 + 37 + 16 + 4 == 720  # million multiply-adds, row by row: they are 724.4
    exact = [105_415_200, 223_948_800, 149_520_384, 112_140_288, 74_760_192, 37_748_736, 16_777_216, 4_096_000]
    assert sum(exact) == 724_406_816


def test_two_streams_meet_in_the_third_convolution_alone():
    assert [row.groups for row in alexnet_layout(2) if isinstance(row, Conv)] == [1, 2, 1, 2, 2]


def test_alexnet_responds_after_the_first_two_convolutions_and_drops_after_the_hidden_layers():
    names = [name for name, _ in meta("alexnet", data(size=227)).named_children()]
    assert names == [
        "conv1", "activation1", "norm1", "pool1", "conv2", "activation2", "norm2", "pool2",
        "conv3", "activation3", "conv4", "activation4", "conv5", "activation5", "pool5", "flatten",
        "fc6", "activation6", "dropout6", "fc7", "activation7", "dropout7", "head",
    ]  # fmt: skip
    batch = [name for name, _ in meta("alexnet", data(size=227), norm="batch").named_children()]
    assert batch[:4] == ["conv1", "norm1", "activation1", "pool1"]
    assert "norm5" in batch
    plain = [name for name, _ in meta("alexnet", data(size=227), norm="none").named_children()]
    assert not [name for name in plain if name.startswith("norm")]


@pytest.mark.parametrize(
    ("name", "arguments", "sizes"),
    [
        ("zfnet", {}, {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv5": 13, "pool5": 6}),
        ("vgg", {"depth": "M"}, {"conv1": 109, "pool1": 54, "conv2": 26, "pool2": 13, "conv5": 13, "pool5": 6}),
        ("vgg", {"depth": 16}, {"stage1": 112, "stage2": 56, "stage3": 28, "stage4": 14, "stage5": 7}),
    ],
)
def test_sizes_from_224(name, arguments, sizes):
    after = shapes(meta(name, data(), **arguments), torch.zeros(1, 3, 224, 224, device="meta"))
    assert {part: after[part][-1] for part in sizes} == sizes


@pytest.mark.parametrize(("widths", "channels"), [("paper", (384, 384, 256)), ("lecture", (512, 1024, 512))])
def test_zfnet_begins_finer_and_may_go_on_wider(widths, channels):
    network = meta("zfnet", data(), widths=widths)
    assert (network.conv1.kernel_size, network.conv1.stride) == ((7, 7), (2, 2))
    assert (network.conv3.out_channels, network.conv4.out_channels, network.conv5.out_channels) == channels


def test_vgg16_without_its_second_convolution_costs_what_the_slide_prints():
    second = 64 * 64 * 9 * 224**2
    assert second / 1e9 == pytest.approx(1.850, abs=5e-4)
    assert (15_470_264_320 - second) / 1e9 == pytest.approx(13.6, abs=0.05)


def test_vgg16_down_to_28_pixels():
    network = meta("vgg", data(), depth=16)[:3]
    # slides print 1.1 M and 7,485 M, which leave conv3_3 out
    assert count_parameters(network) == 1_735_488
    macs = multiply_adds(network, torch.zeros(1, 3, 224, 224, device="meta"))
    assert macs / 1e6 == pytest.approx(9_335, abs=0.5)


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize(("kernel", "small", "large"), [(5, 18, 25), (7, 27, 49)])
def test_small_filters_see_as_much_for_less(channels, kernel, small, large):
    def convolution(size):
        return nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)

    many, one = nn.Sequential(*(convolution(3) for _ in range((kernel - 1) // 2))), convolution(kernel)
    assert (count_parameters(many), count_parameters(one)) == (small * channels**2, large * channels**2)
    x_bchw = torch.zeros(1, channels, 9, 8)
    assert multiply_adds(many, x_bchw) == small * channels**2 * 72
    assert multiply_adds(one, x_bchw) == large * channels**2 * 72
    x_bchw = torch.zeros(1, channels, 15, 15, requires_grad=True)
    many(x_bchw)[0, 0, 7, 7].backward()
    assert (x_bchw.grad.abs().sum((0, 1)) > 0).sum() == kernel**2


def test_a_vgg_stage_at_half_the_size_and_twice_the_channels_costs_the_same():
    first, second = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.Conv2d(16, 16, 3, padding=1, bias=False)
    assert count_parameters(second) == 36 * 64 == 4 * count_parameters(first)
    macs = multiply_adds(first, torch.zeros(1, 8, 10, 12))
    assert macs == multiply_adds(second, torch.zeros(1, 16, 5, 6)) == 36 * 5 * 6 * 64
    assert first(torch.zeros(1, 8, 10, 12)).numel() == 2 * second(torch.zeros(1, 16, 5, 6)).numel()


def test_vgg16_gives_what_torchvision_gives_with_its_weights():
    theirs = torchvision.models.vgg16(weights=None, init_weights=False).eval()
    ours = meta("vgg", data(), depth=16)
    copy(ours, theirs)
    x_bchw = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(ours(x_bchw), theirs(x_bchw), atol=1e-5)


def test_vgg_with_batch_norm_gives_what_torchvision_gives():
    from torchvision.models.vgg import VGG, make_layers

    layers = make_layers([8, "M", 16, 16, "M"], batch_norm=True)
    theirs = VGG(layers, num_classes=7, init_weights=False)
    theirs.avgpool = nn.Identity()
    theirs.classifier[0], theirs.classifier[3], theirs.classifier[6] = (
        nn.Linear(16 * 64, 12),
        nn.Linear(12, 12),
        nn.Linear(12, 7),
    )
    theirs(torch.randn(8, 3, 32, 32))  # so that the running statistics are not those of the beginning
    theirs.eval()
    ours = meta("vgg", data(size=32, classes=7), stages=[[1, 8], [2, 16]], head=[12, 12], norm="batch")
    copy(ours, theirs)
    x_bchw = torch.randn(2, 3, 32, 32)
    assert torch.allclose(ours(x_bchw), theirs(x_bchw), atol=1e-5)


@pytest.mark.parametrize("layers", [11, 13, 16, 19])
def test_vgg_with_batch_norm_has_as_many_parameters_as_torchvision(layers):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"vgg{layers}_bn")(weights=None, init_weights=False)
    assert count_parameters(meta("vgg", data(), depth=layers, norm="batch")) == count_parameters(theirs)


def test_alexnets_layers_give_what_torchvisions_narrower_alexnet_gives():
    layout = [
        Conv(64, 11, 4, 2), Pool(3, 2), Conv(192, 5, padding=2), Pool(3, 2),
        Conv(384, 3, padding=1), Conv(256, 3, padding=1), Conv(256, 3, padding=1), Pool(3, 2),
    ]  # fmt: skip
    theirs = torchvision.models.alexnet(weights=None).eval()
    with torch.device("meta"):
        ours = build_layout(layout, spec("alexnet", norm="none"), data()).eval()
    copy(ours, theirs)
    x_bchw = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(ours(x_bchw), theirs(x_bchw), atol=1e-5)
    assert count_parameters(ours) == 61_100_840


def torchvision_googlenet():
    theirs = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    theirs.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)  # table 1 says 3x3 at stride 2; torchvision has 2x2
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5  # torchvision's is 1e-3
    return theirs


def test_googlenet_gives_what_torchvision_gives_with_its_weights():
    theirs = torchvision_googlenet()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.1, 0.5)
    ours = meta("googlenet", data(), norm="batch", large_kernel=3)
    copy(ours, theirs)
    theirs.eval()
    x_bchw = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(ours(x_bchw), theirs(x_bchw), atol=1e-5, rtol=1e-4)
    ours.train(), theirs.train()
    for network in (ours, theirs):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.Dropout):
                module.eval()
    with torch.no_grad():
        scores, auxiliary = ours(x_bchw)
        given = theirs(x_bchw)
    for mine, other in zip((scores, *auxiliary), (given.logits, given.aux_logits1, given.aux_logits2), strict=True):
        assert torch.allclose(mine, other, atol=1e-5, rtol=1e-4)


def test_the_stem_of_googlenet_is_the_lectures_table():
    stem = meta("googlenet", data(), norm="none").stem
    x_bchw = torch.zeros(1, 3, 224, 224, device="meta")
    after = shapes(stem, x_bchw)
    assert after == {
        "conv1": (64, 112, 112), "pool1": (64, 56, 56), "conv2": (64, 56, 56),
        "conv3": (192, 56, 56), "pool3": (192, 28, 28),
    }  # fmt: skip
    assert sum(torch.Size(shape).numel() for shape in after.values()) * 4 / 1024 == 7_644
    assert [module.weight.numel() for module in stem.modules() if isinstance(module, nn.Conv2d)] == [
        9_408,
        4_096,
        110_592,
    ]
    macs = multiply_adds(stem, x_bchw)
    assert macs == 118_013_952 + 12_845_056 + 346_816_512
    pools = 9 * (64 * 56**2 + 192 * 28**2)
    assert (macs + pools) / 1e6 == pytest.approx(480.8, abs=0.05)  # the slide's sum of 418 is not that of its rows


def test_the_tail_of_googlenet():
    network = meta("googlenet", data())
    assert isinstance(network.pool, nn.AdaptiveAvgPool2d)
    assert count_parameters(network.head) == 1_025_000
    assert (network.head.in_features, network.head.out_features) == (1024, 1000)


def test_inception_channels_are_those_of_table_1():
    assert [[row.total for row in stage] for stage in STAGES] == [[256, 480], [512, 512, 512, 528, 832], [832, 1024]]


@pytest.mark.parametrize(
    ("modules", "totals"),
    [(1, [832]), (2, [528, 832]), (5, [512, 512, 512, 528, 832]), (7, [512, 512, 512, 528, 832, 832, 832])],
)
def test_a_stage_of_another_length_ends_as_in_the_paper(modules, totals):
    assert [row.total for row in stage_widths(STAGES[1], modules)] == totals


@pytest.mark.parametrize(("middle", "after"), [(1, (1,)), (2, (1,)), (3, (1, 2)), (5, (1, 4)), (8, (1, 7))])
def test_googlenet_of_any_length_learns_in_all_its_parts(middle, after):
    network = build(spec("googlenet", modules=[1, middle, 1]), data(size=32, classes=4))
    assert network.after == after
    out = network(torch.randn(2, 3, 32, 32))
    assert isinstance(out, WithAuxiliary)
    assert [scores.shape for scores in (out.logits, *out.auxiliary)] == [(2, 4)] * (1 + len(after))
    sum(scores.sum() for scores in (out.logits, *out.auxiliary)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 4)


def test_without_auxiliary_classifiers_googlenet_gives_its_scores_alone():
    network = build(spec("googlenet", modules=[1, 1, 1], auxiliary=False), data(size=32, classes=4))
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    assert len(network.auxiliary) == 0


LENET = {
    "c1": ((6, 28, 28), 156), "s2": ((6, 14, 14), 0), "c3": ((16, 10, 10), 2_416), "s4": ((16, 5, 5), 0),
    "c5": ((120, 1, 1), 48_120), "f6": ((84,), 10_164), "head": ((10,), 850),
}  # fmt: skip


def test_lenet_is_the_papers_figure():
    network = meta("lenet5", data(1, 32, 10))
    after = shapes(network, torch.zeros(1, 1, 32, 32, device="meta"))
    assert {name: (after[name], count_parameters(getattr(network, name))) for name in LENET} == LENET
    assert count_parameters(meta("lenet5", data(1, 32, 10), c3="table").c3) == 1_516


def test_lenets_table_connects_as_the_paper_says():
    assert sorted(map(len, C3_TABLE)) == [3] * 6 + [4] * 9 + [6]
    assert [sum(seen in row for row in C3_TABLE) for seen in range(6)] == [10] * 6
    assert len(set(C3_TABLE)) == 16


def test_the_table_convolution_is_a_full_one_with_zeros_where_nothing_is_connected():
    table, full = TableConv(C3_TABLE, 5), nn.Conv2d(6, 16, 5)
    with torch.no_grad():
        full.weight.zero_()
        for number, (conv, seen) in enumerate(zip(table.maps, C3_TABLE, strict=True)):
            full.weight[number, list(seen)] = conv.weight[0]
            full.bias[number] = conv.bias[0]
    x_bchw = torch.randn(2, 6, 14, 14)
    assert torch.allclose(table(x_bchw), full(x_bchw), atol=1e-5)


class LectureNet(nn.Module):
    """The lecture's code, with log-softmax."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = functional.relu(functional.max_pool2d(self.conv1(x), 2))
        x = functional.relu(functional.max_pool2d(self.conv2(x), 2))
        x = functional.relu(self.fc1(x.view(-1, 320)))
        return functional.log_softmax(self.fc2(x), dim=1)


def test_the_lecture_net_is_the_lectures_code():
    ours, theirs = meta("lecture_net", data(1, 28, 10)), LectureNet()
    copy(ours, theirs)
    x_bchw = torch.randn(3, 1, 28, 28)
    assert torch.allclose(ours(x_bchw).log_softmax(1), theirs(x_bchw), atol=1e-6)
    parts = [count_parameters(layer) for layer in (ours.conv1, ours.conv2, ours.fc1, ours.head)]
    assert parts == [260, 5_020, 16_050, 510]


SMALLEST = [
    ("alexnet", SMALL_HEAD, 67),
    ("zfnet", SMALL_HEAD, 53),
    ("vgg", {"depth": 16, **SMALL_HEAD}, 32),
    ("vgg", {"depth": "M", **SMALL_HEAD}, 41),
    ("vgg", {"stages": [[1, 4], [1, 8]], **SMALL_HEAD}, 4),
    ("googlenet", {"modules": [1, 1, 1]}, 31),
    ("lenet5", {}, 32),
    ("lenet5", {"padding": 2}, 28),
    ("lenet5", {"c3": "table"}, 32),
    ("lecture_net", {}, 16),
]


@pytest.mark.parametrize(("name", "arguments", "smallest"), SMALLEST)
def test_the_smallest_legal_image_runs_and_a_smaller_one_is_refused_with_it(name, arguments, smallest):
    network = build(spec(name, **arguments), data(1, smallest, 3)).eval()
    assert network(torch.randn(2, 1, smallest, smallest)).shape == (2, 3)
    with pytest.raises(
        UserError, match=rf"{name} cannot take images of .*smallest that it takes: {smallest}x{smallest}"
    ):
        count(spec(name, **arguments), data(1, smallest - 1, 3))


def test_a_small_image_for_lenet_is_told_the_padding_that_would_do():
    with pytest.raises(UserError, match=r"28x28 pixels.*32x32, or padding: 2"):
        build(spec("lenet5"), data(1, 28, 10))
    with pytest.raises(UserError, match=r"or padding: 12"):
        build(spec("lenet5", padding=1), data(1, 8, 10))
    assert build(spec("lenet5", padding=12), data(1, 8, 10))(torch.randn(1, 1, 8, 8)).shape == (1, 10)


def test_the_smallest_size_of_alexnet_follows_from_its_windows():
    assert smallest_image_size(window_layers([meta("alexnet", data(size=227))])) == 67


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        ({}, "depth", "say depth"),
        ({"depth": 16, "stages": [[1, 4]]}, "stages", "say one of the two"),
    ],
)
def test_vgg_needs_exactly_one_layout(arguments, field, message):
    with pytest.raises(ValidationError, match=message) as raised:
        spec("vgg", **arguments)
    assert raised.value.errors()[0]["ctx"]["error"].field == field


@pytest.mark.parametrize(
    ("name", "arguments", "legal"),
    [
        ("vgg", {"depth": 12}, "11, 13, 16, 19 or 'M'"),
        ("vgg", {"stages": [[0, 4]]}, "greater than or equal to 1"),
        ("alexnet", {"streams": 3}, "1 or 2"),
        ("zfnet", {"widths": "slide"}, "'paper' or 'lecture'"),
        ("googlenet", {"modules": [2, 0, 2]}, "greater than or equal to 1"),
        ("googlenet", {"large_kernel": 4}, "3 or 5"),
        ("lenet5", {"c3": "half"}, "'full' or 'table'"),
        ("mlp", {"norm": "instance"}, "'none', 'batch' or 'layer'"),
        ("mlp", {"dropout": 1.0}, "less than 1"),
        ("two_layer", {"depth": 2}, "Extra inputs"),
    ],
)
def test_wrong_arguments_are_refused_with_the_right_ones(name, arguments, legal):
    with pytest.raises(ValidationError, match=legal):
        spec(name, **arguments)


CHOOSING = [
    ("vgg", {"stages": [[1, 4], [2, 6]], "head": [5]}, 8, ("activation", "norm", "pool", "init")),
    ("vgg", {"depth": "M", "head": []}, 41, ("norm", "pool")),
    ("alexnet", {"head": [4]}, 67, ("norm", "pool")),
    ("googlenet", {"modules": [1, 1, 1], "auxiliary": False}, 31, ("norm", "pool")),
    ("lenet5", {}, 32, ("activation", "pool", "init")),
    ("lecture_net", {}, 16, ("activation", "pool", "init")),
    ("mlp", {"depth": 2, "hidden": 5, "dropout": 0.2}, 4, ("activation", "norm", "init")),
    ("two_layer", {"hidden": 5}, 4, ("activation", "init")),
    ("perceptron", {}, 4, ("init",)),
]
CHOICES = {"activation": [*ACTIVATIONS], "norm": [*NORMS], "pool": ["max", "average"], "init": [*INITS]}


@pytest.mark.parametrize(("name", "arguments", "size", "fields"), CHOOSING)
def test_every_choice_of_a_block_trains(name, arguments, size, fields):
    x_bchw = torch.randn(2, 1, size, size)
    for field in fields:
        for choice in [*FEATURE_NORMS] if (name, field) == ("mlp", "norm") else CHOICES[field]:
            network = build(spec(name, **arguments, **{field: choice}), data(1, size, 3))
            network(x_bchw).sum().backward()
            assert all(parameter.grad is not None for parameter in network.parameters()), (field, choice)


def test_perceptrons_by_hand():
    scores = build(spec("perceptron"), data(1, 3, 4))
    squeezed = build(spec("perceptron", output="sigmoid"), data(1, 3, 4))
    squeezed.load_state_dict(scores.state_dict())
    x_bchw = torch.randn(2, 1, 3, 3)
    by_hand = x_bchw.reshape(2, 9) @ scores.head.weight.T + scores.head.bias
    assert torch.allclose(scores(x_bchw), by_hand, atol=1e-6)
    assert torch.allclose(squeezed(x_bchw), 1 / (1 + torch.exp(-by_hand)), atol=1e-6)
    assert count(spec("perceptron"), data(1, 3, 4)) == count(spec("linear"), data(1, 3, 4)) == NetworkCost(40, 36)


def test_the_linear_classifier_of_the_lecture_scores_with_its_bias():
    network = build(spec("linear"), data(1, 2, 3))
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[0.2, -0.5, 0.1, 2.0], [1.5, 1.3, 2.1, 0.0], [0, 0.25, 0.2, -0.3]]))
        network.head.bias.copy_(torch.tensor([1.1, 3.2, -1.2]))
    scores = network(torch.tensor([[[[56.0, 231.0], [24.0, 2.0]]]]))
    assert scores[0].tolist() == pytest.approx([-96.8, 437.9, 60.75], abs=1e-3)  # the slide's 61.95 forgot the bias


def test_the_two_layer_net_by_hand():
    network = build(spec("two_layer", hidden=5), data(1, 3, 4))
    x_bchw = torch.randn(2, 1, 3, 3)
    hidden = (x_bchw.reshape(2, 9) @ network.hidden.weight.T + network.hidden.bias).clamp(min=0)
    assert torch.allclose(network(x_bchw), hidden @ network.head.weight.T + network.head.bias, atol=1e-6)
    same = count(spec("mlp", hidden=5), data(1, 3, 4))
    assert count(spec("two_layer", hidden=5), data(1, 3, 4)) == same == NetworkCost(50 + 24, 45 + 20)


def test_the_parts_of_a_perceptron_with_everything():
    names = [name for name, _ in build(spec("mlp", norm="layer", dropout=0.1), data(1, 3, 4)).named_children()]
    assert names == ["flatten", "hidden1", "norm1", "activation1", "dropout1", "head"]


@pytest.mark.parametrize(("name", "arguments", "smallest"), SMALLEST)
def test_a_network_pickles(name, arguments, smallest):
    network = build(spec(name, **arguments), data(1, smallest, 3)).eval()
    x_bchw = torch.randn(1, 1, smallest, smallest)
    assert torch.equal(pickle.loads(pickle.dumps(network))(x_bchw), network(x_bchw))
