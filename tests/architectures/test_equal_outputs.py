"""Segmentation networks and detectors give what the same network elsewhere gives with the same weights.

Elsewhere is torchvision where it has the network on a backbone of ours, and else the paper's figure written down once
more, with torch's functions alone.
"""

import json

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from expflow.architectures import build
from expflow.architectures.detr import SetDecoderLayer, SetEncoderLayer
from expflow.registry import MODELS
from tests.architectures.nets import data

CLASSES = 5


def spec(name, **keys):
    return MODELS.spec(name).model_validate_json(json.dumps({"name": name, **keys}))


def with_statistics(network, seed=0):
    """A network in eval mode whose norms have statistics, factors and biases that change something."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.05)
    return network.eval()


def copied_in_order(ours, theirs):
    """Give ``theirs`` the weights of ``ours``, by their order."""
    values, names = list(ours.state_dict().values()), list(theirs.state_dict())
    assert [value.shape for value in values] == [value.shape for value in theirs.state_dict().values()]
    theirs.load_state_dict(dict(zip(names, values, strict=True)))
    return theirs.eval()


@pytest.mark.parametrize(
    ("name", "theirs", "keys", "arguments"),
    [
        ("faster_rcnn", "fasterrcnn_resnet50_fpn", {"extra_levels": 1}, {"box_score_thresh": 0.0}),
        ("mask_rcnn", "maskrcnn_resnet50_fpn", {"extra_levels": 1}, {"box_score_thresh": 0.0}),
        ("keypoint_rcnn", "keypointrcnn_resnet50_fpn", {"extra_levels": 1}, {"box_score_thresh": 0.0}),
        (
            "retinanet",
            "retinanet_resnet50_fpn",
            {"extra_levels": 2, "smallest_stride": 8, "anchor_scale": 4.0},
            {"score_thresh": 0.0},
        ),
        ("fcos", "fcos_resnet50_fpn", {"extra_levels": 2, "smallest_stride": 8}, {"score_thresh": 0.0}),
    ],
)
def test_a_head_on_our_resnet_finds_what_torchvisions_whole_detector_finds(name, theirs, keys, arguments):
    two_stages = int(name.endswith("_rcnn"))
    images = data(size=64, classes=CLASSES)
    common = {"max_detections": 20, "score_threshold": 0.0, "nms_threshold": 0.5}
    common |= {"proposals": 50} if two_stages else {}
    ours = with_statistics(build(spec(name, backbone="resnet50", **common, **keys), images))
    whole = torchvision.models.get_model(
        theirs,
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + two_stages,
        min_size=64,
        max_size=64,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        **arguments,
        **(
            {"box_detections_per_img": 20, "rpn_post_nms_top_n_test": 50}
            if two_stages
            else {"detections_per_img": 20, "nms_thresh": 0.5, "anchor_generator": ours.head.anchor_generator}
        ),
    )
    whole = copied_in_order(ours, whole)
    x_bchw = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        given, expected = ours(x_bchw), whole(list(x_bchw))
    for own, other in zip(given, expected, strict=True):
        assert len(own["boxes"]) == 20
        assert torch.equal(own["labels"], other["labels"] - two_stages)
        for part in set(other) - {"labels"}:
            torch.testing.assert_close(own[part], other[part], rtol=1e-4, atol=1e-4)


def twice(x_bchw, block):
    """Two 3x3 convolutions with batch norm and ReLU, whose layers are those of ``block``."""
    for conv, norm in ((block[0], block[1]), (block[3], block[4])):
        x_bchw = functional.conv2d(x_bchw, conv.weight, conv.bias, padding=1)
        mean, variance = norm.running_mean, norm.running_var
        x_bchw = functional.batch_norm(x_bchw, mean, variance, norm.weight, norm.bias, eps=norm.eps).relu()
    return x_bchw


def test_a_u_net_computes_figure_1():
    """Of depth 2: two levels go down, their maps are joined on the way up, with padded convolutions."""
    net = with_statistics(build(spec("unet", depth=2, width=4, norm="batch"), data(size=20, classes=CLASSES)))
    x_bchw = torch.randn(2, 3, 20, 20)
    first = twice(x_bchw, net.encoder[0])
    second = twice(functional.max_pool2d(first, 2), net.encoder[1])
    third = twice(functional.max_pool2d(second, 2), net.encoder[2])
    for number, beside in enumerate((second, first)):
        up = net.up[number]
        third = functional.conv_transpose2d(third, up.weight, up.bias, stride=2)
        third = twice(torch.cat([beside, third], 1), net.decoder[number])
    torch.testing.assert_close(net(x_bchw), functional.conv2d(third, net.head.weight, net.head.bias))


def test_fcn_8s_computes_section_4():
    """Scores of the last map are doubled and added to those of pool4, then of pool3, and the sum is enlarged by 8."""
    net = with_statistics(build(spec("fcn", depth=11, skips=2, head=[8, 8], kernel=7), data(size=64, classes=CLASSES)))
    for part in (net.head[-1], *net.scores):
        nn.init.normal_(part.weight, 0, 0.1)
    x_bchw = torch.randn(2, 3, 64, 64)
    convs = [[module for module in stage.modules() if isinstance(module, nn.Conv2d)] for stage in net.stages]
    pools, values = [], x_bchw
    for stage in convs:
        for conv in stage:
            values = functional.conv2d(values, conv.weight, conv.bias, padding=1).relu()
        values = functional.max_pool2d(values, 2)
        pools.append(values)
    six, seven, score = (module for module in net.head if isinstance(module, nn.Conv2d))
    values = functional.conv2d(values, six.weight, six.bias, padding=3).relu()
    values = functional.conv2d(values, seven.weight, seven.bias).relu()
    scores = functional.conv2d(values, score.weight, score.bias)
    for pool, beside, doubling in zip(pools[-2:-4:-1], net.scores, net.doublings, strict=True):
        scores = functional.conv_transpose2d(scores, doubling.weight, stride=2, padding=1)
        scores = scores + functional.conv2d(pool, beside.weight, beside.bias)
    expected = functional.conv_transpose2d(scores, net.upsampling.weight, stride=8, padding=4)
    torch.testing.assert_close(net(x_bchw), expected)


@pytest.mark.parametrize("name", ["deconvnet", "segnet"])
def test_a_net_that_unpools_is_a_row_of_torchs_own_layers(name):
    """The layers themselves in a row, with torch's MaxPool2d and MaxUnpool2d between them."""
    keys = {"head": [8], "kernel": 3} if name == "deconvnet" else {}
    net = with_statistics(build(spec(name, stages=[[1, 4], [2, 6]], **keys), data(size=24, classes=CLASSES)))
    x_bchw = torch.randn(2, 3, 24, 24)
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    values, one = pool(net.encoder[0](x_bchw))
    values, two = pool(net.encoder[1](values))
    values = net.decoder[1](unpool(net.decoder[0](unpool(net.middle(values), two)), one))
    torch.testing.assert_close(net(x_bchw), net.head(values))


def test_layers_of_detr_are_torchs_transformer_where_nothing_has_a_place():
    """torch's layers take no places of tokens and no queries beside what they hold: with zeros both are the same."""
    keys = {"features": 16, "attention_heads": 4, "feedforward": 32, "attention_dropout": 0.0}
    settings = spec("detr", **keys)
    tokens, held, none = torch.randn(2, 12, 16), torch.randn(2, 5, 16), torch.zeros(1, 16)
    encoder = SetEncoderLayer(settings).eval()
    theirs = nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True).eval()
    theirs.self_attn.load_state_dict(encoder.attention.state_dict())
    for layer, own in ((theirs.linear1, encoder.feedforward[0]), (theirs.linear2, encoder.feedforward[3])):
        layer.load_state_dict(own.state_dict())
    for layer, own in zip((theirs.norm1, theirs.norm2), encoder.norms, strict=True):
        layer.load_state_dict(own.state_dict())
    torch.testing.assert_close(encoder(tokens, none), theirs(tokens))
    decoder = SetDecoderLayer(settings).eval()
    theirs = nn.TransformerDecoderLayer(16, 4, 32, 0.0, batch_first=True).eval()
    theirs.self_attn.load_state_dict(decoder.own.attention.state_dict())
    theirs.multihead_attn.load_state_dict(decoder.to_image.state_dict())
    theirs.linear1.load_state_dict(decoder.own.feedforward[0].state_dict())
    theirs.linear2.load_state_dict(decoder.own.feedforward[3].state_dict())
    torch.testing.assert_close(decoder(held, none, tokens, none), theirs(held, tokens))
    # queries and places enter what is asked and what is asked for, and never what is taken over
    queries, places = torch.randn(5, 16), torch.randn(12, 16)
    asked = held + queries
    own = decoder.own
    between = own.norms[0](held + own.attention(asked, asked, held)[0])
    seen = decoder.to_image(between + queries, tokens + places, tokens)[0]
    between = decoder.image_norm(between + seen)
    expected = own.norms[1](between + own.feedforward(between))
    torch.testing.assert_close(decoder(held, queries, tokens, places), expected)


@pytest.mark.parametrize("name", ["ssd300_vgg16", "retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn"])
def test_a_detector_of_torchvision_gives_with_our_builder_what_it_gives_by_itself(name):
    side, background = 300 if name.startswith("ssd") else 64, int(not name.startswith("retina"))
    ours = build(spec(f"torchvision/{name}"), data(size=side, classes=CLASSES)).eval()
    sizes = {} if name.startswith("ssd") else {"min_size": side, "max_size": side}
    plain = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    make = torchvision.models.get_model
    theirs = make(name, weights=None, weights_backbone=None, num_classes=CLASSES + background, **sizes, **plain)
    theirs.load_state_dict(ours.network.state_dict())
    theirs.eval()
    x_bchw = torch.rand(1, 3, side, side)
    with torch.no_grad():
        given, expected = ours(x_bchw), theirs(list(x_bchw))
    for part in ("boxes", "scores"):
        assert torch.equal(given[0][part], expected[0][part])
    assert torch.equal(given[0]["labels"], expected[0]["labels"] - background)
