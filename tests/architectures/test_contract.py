"""What every architecture that has a name must do, whoever wrote it."""

import json
import math
import pickle

import pytest
import torch

from expflow.architectures import build, count
from expflow.architectures.accounting import count_parameters, multiply_adds
from expflow.architectures.catalogue import describe_architecture, image_data_spec, usual_data
from expflow.architectures.layer_table import LayerTable, layer_rows, layer_table
from expflow.architectures.outputs import WithAuxiliary
from expflow.architectures.specs.package_models import ALIASES
from expflow.config import load
from expflow.config.component_specs import input_shape
from expflow.errors import ExperimentInvalid
from expflow.registry import MODELS

CLASSES = 7

BACKBONE = {"backbone": "resnet", "layout": [1, 1, 1], "width": 4}
SMALL = {
    # name -> arguments of a small one, and an image that it takes
    "alexnet": ({"head": [16]}, (3, 67, 67)),
    "child": (
        {"normal": "max_pool_3x3(0) + conv_1x3_3x1(1), sep_conv_3x3(2) + skip_connect(0)", "cells": 3, "width": 4},
        (3, 8, 9),
    ),
    "supernet": ({"nodes": 2, "operations": ["max_pool_3x3", "conv_3x3"], "cells": 3, "width": 4}, (3, 8, 9)),
    "convmixer": ({"patch": 2, "depth": 2, "width": 8, "kernel": 3}, (3, 8, 8)),
    "fcn": ({"stages": [[1, 4], [1, 8]], "head": [8], "kernel": 3, "skips": 1}, (3, 9, 14)),
    "deconvnet": ({"stages": [[1, 4], [2, 8]], "head": [8, 6], "kernel": 2}, (3, 9, 14)),
    "encoder_decoder": ({"backbone": "resnet", "depth": 8, "width": 4, "decoder_width": 8}, (3, 18, 29)),
    "autoencoder": ({"backbone": "resnet", "depth": 8, "width": 4, "code": 3, "decoder_width": 4}, (3, 18, 13)),
    "ddpm_unet": ({"width": 8, "factors": [1, 2, 2], "blocks": 1, "dropout": 0.0}, (3, 9, 14)),
    "dcgan_generator": ({"latent": 5, "width": 4}, (1, 28, 20)),
    "dcgan_discriminator": ({"width": 4, "sees": "pair"}, (1, 28, 20)),
    "patch_discriminator": ({"width": 4, "layers": 2, "sees": "centre"}, (3, 32, 36)),
    "pix2pix_generator": ({"width": 4}, (3, 16, 24)),
    "resnet_generator": ({"width": 4, "blocks": 2}, (3, 8, 12)),
    "context_encoder": ({"width": 4, "bottleneck": 6}, (1, 28, 20)),
    "multi_head": ({"backbone": "resnet", "depth": 8, "width": 4}, (3, 9, 9)),
    "polynomial": ({"degree": 3}, (1, 2, 3)),
    "srcnn": ({"channels": [4, 3], "kernels": [3, 1, 3]}, (3, 9, 14)),
    "segnet": ({"stages": [[1, 4], [2, 8]]}, (3, 9, 14)),
    "detr": (
        {**BACKBONE, "features": 8, "attention_heads": 2, "layers": 2, "feedforward": 8, "queries": 5},
        (3, 32, 40),
    ),
    "faster_rcnn": ({**BACKBONE, "head_width": 4, "hidden": 8, "proposals": 20, "extra_levels": 1}, (3, 32, 40)),
    "fcos": ({**BACKBONE, "head_width": 32, "smallest_stride": 2, "fpn": False, "extra_levels": 1}, (3, 32, 40)),
    "keypoint_rcnn": (
        {**BACKBONE, "head_width": 4, "hidden": 8, "keypoint_width": 4, "keypoint_layers": 2, "proposals": 20},
        (3, 32, 40),
    ),
    "mask_rcnn": ({**BACKBONE, "head_width": 4, "hidden": 8, "mask_width": 4, "proposals": 20}, (3, 32, 40)),
    "retinanet": ({**BACKBONE, "head_width": 4, "smallest_stride": 2}, (3, 32, 40)),
    "ssd": ({**BACKBONE, "head_width": 4, "smallest_stride": 2, "extra_levels": 1}, (3, 32, 40)),
    "densenet": ({"depth": 10, "growth": 4}, (1, 8, 8)),
    "gmlp": ({"patch": 4, "depth": 2, "width": 8}, (3, 8, 8)),
    "googlenet": ({"modules": [1, 2, 1]}, (3, 96, 96)),
    "lecture_net": ({}, (1, 28, 28)),
    "lenet5": ({}, (1, 32, 32)),
    "linear": ({}, (1, 8, 8)),
    "mae": (
        {"patch": 4, "depth": 2, "width": 8, "heads": 2, "decoder_width": 4, "decoder_depth": 1, "decoder_heads": 1},
        (3, 8, 8),
    ),
    "mixer": ({"patch": 4, "depth": 2, "width": 8}, (3, 8, 8)),
    "mlp": ({"depth": 2, "hidden": 5}, (3, 4, 5)),
    "mobilenet_v1": ({"stem": "cifar", "width_factor": 0.125, "depth": 1}, (1, 32, 32)),
    "perceptron": ({}, (1, 8, 8)),
    "resnet": ({"depth": 8, "width": 4}, (3, 9, 9)),
    "shufflenet_v1": ({"stem": "cifar", "width_factor": 0.25}, (3, 32, 32)),
    "unet": ({"width": 4, "depth": 2, "norm": "batch"}, (3, 9, 14)),
    "two_layer": ({}, (1, 8, 8)),
    "vgg": ({"stages": [[1, 4], [2, 8]], "head": [8]}, (1, 9, 9)),
    "vit": ({"patch": 4, "depth": 2, "width": 8, "heads": 2}, (3, 8, 8)),
    "zfnet": ({"head": [16]}, (3, 64, 64)),
}
REQUIRED = {
    # name -> arguments that have no default
    "densenet": {"depth": 40},
    "fcn": {"depth": 16},
    "deconvnet": {"depth": 16},
    "segnet": {"depth": 16},
    "resnet": {"depth": 20},
    "vgg": {"depth": 11},
}
TASK_OF = {
    "maps": "segmentation",
    "boxes": "detection",
    "several": "multitask",
    "images": "autoencoder",
    "noise": "diffusion",
    "patches": "mae",
}
OF_TOKENS = {"transformer", "clip", "igpt"}  # tests/tasks/test_seq2seq.py, test_clip.py, test_igpt.py
NATIVE = sorted(set(MODELS.names()) - ALIASES.keys() - OF_TOKENS)
OF_PACKAGES = [*sorted(ALIASES), "timm/resnet10t", "torchvision/shufflenet_v2_x0_5"]
NAMES = [*NATIVE, *OF_PACKAGES]
DETECTORS = [name for name in NATIVE if MODELS.spec(name).gives == "boxes"]
COMPILED = [*(name for name in NATIVE if name not in DETECTORS), "squeezenet", "timm/resnet10t"]
"""Of the packages' networks one each: what we add to them is the same for all."""


IMAGES = ("images", "noise", "patches", "centre")
"""What networks that make images give."""


def small(name):
    """(spec, data): small for a family of ours, of the published size for a package's."""
    arguments, shape = SMALL.get(name, ({}, None))
    spec = MODELS.spec(name).model_validate_json(json.dumps({"name": name, **arguments}))
    return spec, image_data_spec(shape, CLASSES) if shape else usual_data(spec, classes=CLASSES)


def shape_of_scores(spec, data, batch):
    """What the network of a spec gives; of a detector on the meta device, all that is there before boxes are chosen."""
    if spec.gives_here == "boxes":
        return (math.prod(build_and_run(spec, data, batch).shape),)
    if spec.gives_here == "realness":
        return (batch, 1, *build_and_run(spec, data, batch).shape[2:])
    if spec.gives_here in IMAGES:
        channels, height, width = data.image_shape
        return (batch, channels, *((height // 2, width // 2) if spec.gives_here == "centre" else (height, width)))
    return (batch, data.num_classes, *(data.image_size if spec.gives_here == "maps" else ()))


def zeros(spec, data, batch):
    """What its network is called with."""
    return torch.zeros(batch, *input_shape(spec, data.image_shape))


def scores_of(output):
    """What a network gives; of several fields that of the class, which is the only one in these tests."""
    return output["label"] if isinstance(output, dict) and "label" in output else output


def build_and_run(spec, data, batch):
    return scores_of(build(spec, data).eval()(zeros(spec, data, batch)))


def learnt(network, x_bchw, targets=None):
    """Scores or losses of a pass in train mode, after which gradients are there."""
    output = scores_of(network.train()(x_bchw) if targets is None else network.train()(x_bchw, targets))
    if isinstance(output, dict):
        sum(output.values()).backward()
        return torch.stack([loss.detach() for loss in output.values()])
    parts = (output.logits, *output.auxiliary) if isinstance(output, WithAuxiliary) else (output,)
    sum(part.square().sum() for part in parts).backward()
    return parts[0]


def objects(height, width):
    """Targets of three images: two objects, one, and none."""
    boxes = torch.tensor([[2.0, 2, 20, 24], [6, 4, 14, 12]])
    masks = torch.zeros(2, height, width, dtype=torch.uint8)
    masks[0, 2:24, 2:20] = masks[1, 4:12, 6:14] = 1
    labels, points = torch.tensor([0, CLASSES - 1]), torch.full((2, 17, 3), 8.0)
    parts = {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": points}
    return [{name: part[:n] for name, part in parts.items()} for n in (2, 1, 0)]


def test_every_family_of_ours_has_a_small_case():
    assert SMALL.keys() == set(NATIVE)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_built_counted_trained_and_pickled_without_memory(name):
    spec, data = small(name)
    with torch.device("meta"):
        network = build(spec, data)
        x_bchw = zeros(spec, data, 1)
        table = LayerTable(name, tuple(x_bchw.shape[1:]), tuple(layer_rows(network, x_bchw)))
        assert table.params == count_parameters(network)
        assert table.macs == multiply_adds(network, x_bchw) > 0
        assert network.training
        assert scores_of(network.eval()(x_bchw)).shape == shape_of_scores(spec, data, 1)
        assert learnt(network, zeros(spec, data, 2)).shape == shape_of_scores(spec, data, 2)
    without = [path for path, parameter in network.named_parameters() if parameter.grad is None]
    assert not without
    again = pickle.loads(pickle.dumps(network))
    assert [tuple(parameter.shape) for parameter in again.parameters()] == [
        tuple(parameter.shape) for parameter in network.parameters()
    ]


@pytest.mark.parametrize("name", NATIVE)
def test_it_is_built_from_its_defaults_for_its_usual_data(name):
    spec = MODELS.spec(name)(name=name, **REQUIRED.get(name, {}))
    data = usual_data(spec)
    with torch.device("meta"):
        network = build(spec, data).eval()
        assert scores_of(network(zeros(spec, data, 2))).shape == shape_of_scores(spec, data, 2)
    assert count(spec, data).params == count_parameters(network) > 0


@pytest.mark.parametrize("name", NATIVE)
def test_a_small_one_computes_learns_and_comes_back_from_a_pickle(name):
    spec, data = small(name)
    network = build(spec, data)
    x_bchw = torch.randn_like(zeros(spec, data, 3))
    targets = objects(*data.image_size) if spec.gives == "boxes" else None
    assert learnt(network, x_bchw, targets).isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    again = pickle.loads(pickle.dumps(network)).eval()
    with torch.no_grad():
        for first, second in zip(scores_of(again(x_bchw)), scores_of(network.eval()(x_bchw)), strict=True):
            parts = (first.items(), second.items()) if isinstance(first, dict) else ([("", first)], [("", second)])
            assert all(torch.equal(one[1], other[1]) for one, other in zip(*parts, strict=True))
    counted, table = count(spec, data), layer_table(spec, data)
    assert (table.params, table.macs) == (counted.params, counted.macs)
    assert counted.params == count_parameters(network)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_argument_is_refused_with_the_right_ones(name, tmp_path):
    arguments = {"name": name, **SMALL.get(name, ({},))[0], "qqqq": 3}
    file = tmp_path / "wrong.yaml"
    task = TASK_OF.get(MODELS.spec(name).gives, "classification")
    file.write_text(f"data: digits\nmodel: {json.dumps(arguments)}\ntask: {task}\noptimizer: sgd\n")
    with pytest.raises(ExperimentInvalid) as raised:
        load(file)
    (problem,) = raised.value.problems
    assert (problem.line, problem.key) == (2, "model.qqqq")
    assert "unknown key; expected one of: " in problem.message
    if name in NATIVE:
        assert all(argument.name in problem.message for argument in describe_architecture(name).arguments)


@pytest.mark.parametrize("name", NATIVE)
def test_every_argument_has_a_description_and_the_family_a_source(name):
    description = describe_architecture(name)
    assert description.summary.endswith(".")
    assert all(argument.description.endswith(".") for argument in description.arguments)


@pytest.mark.parametrize("name", COMPILED)
def test_it_survives_the_compiler(name):
    torch.compiler.reset()  # or it counts the networks before this one as recompilations
    spec, data = small(name)
    network = build(spec, data).eval()
    x_bchw = torch.randn_like(zeros(spec, data, 2))
    with torch.no_grad():
        # captured whole and lowered, but not made into machine code, which takes half a minute for each
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
        assert torch.allclose(scores_of(compiled(x_bchw)), scores_of(network(x_bchw)), atol=1e-5)
