"""Networks that give a score for each class at every pixel: what the papers say of them, and who may use them."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from pydantic import ValidationError
from torch.nn import functional

from expflow.architectures import build, count
from expflow.architectures.catalogue import image_data_spec
from expflow.architectures.fcn import bilinear_upsampling
from expflow.architectures.heads import heads_of
from expflow.architectures.specs.segmentation_names import TORCHVISION_SEGMENTATION
from expflow.architectures.unpooling import unpooled
from expflow.config import load
from expflow.errors import ExperimentInvalid, UserError
from expflow.registry import MODELS
from expflow.training.transfer.weight_loading import load_fitting_weights


def spec(name, **keys):
    return MODELS.spec(name)(name=name, **keys)


@pytest.mark.parametrize(
    ("model", "classes", "params"),
    [
        (spec("deconvnet", depth=16), 21, 251_788_949),
        (spec("segnet", depth=16), 12, 29_441_996),
        (spec("torchvision/fcn_resnet50", aux_loss=True), 21, 35_322_218),
        (spec("torchvision/fcn_resnet101", aux_loss=True), 21, 54_314_346),
        (spec("torchvision/deeplabv3_resnet50", aux_loss=True), 21, 42_004_074),
        (spec("torchvision/lraspp_mobilenet_v3_large"), 21, 3_221_538),
        (spec("smp/Unet"), 1, 24_436_369),
        (spec("smp/Unet", encoder_name="resnet18"), 1, 14_328_209),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else None,
)
def test_larger_ones_and_those_of_packages_do_too(model, classes, params):
    """DeconvNet and SegNet as their papers' nets without biases beside batch norm; torchvision as it publishes."""
    assert count(model, image_data_spec((3, 224, 224), classes)).params == params


@pytest.mark.parametrize(
    ("model", "channels", "classes", "params"),
    [
        (spec("fcn", depth=16, skips=0), 3, 21, 136_152_917),
        (spec("fcn", depth=16, skips=1), 3, 21, 134_815_994),
        (spec("fcn", depth=16, skips=2), 3, 21, 134_489_759),
        (spec("unet"), 1, 2, 31_030_658),
        (spec("unet", norm="batch"), 3, 2, 31_037_698),
        (spec("unet", norm="batch"), 3, 1, 31_037_633),
    ],
)
def test_they_have_as_many_weights_as_published(model, channels, classes, params):
    """FCN-32s, 16s and 8s of VGG-16; U-Net as in figure 1, and with batch norm as in milesial/Pytorch-UNet."""
    assert count(model, image_data_spec((channels, 64, 64), classes)).params == params


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (31, 18)])
@pytest.mark.parametrize(
    "model",
    [
        spec("unet", width=4, depth=3),
        spec("unet", width=4, depth=3, skip=False, up="bilinear", norm="group"),
        spec("fcn", stages=((1, 4), (1, 4), (1, 4)), head=(8,), kernel=3),
        spec("fcn", stages=((1, 4), (1, 4)), head=(), kernel=1, skips=0),
        spec("deconvnet", stages=((1, 4), (2, 6)), head=(8,), kernel=3),
        spec("deconvnet", stages=((1, 4), (2, 6)), head=(8,), kernel=4, unpool="corner"),
        spec("segnet", stages=((2, 4), (1, 6)), unpool="nearest", norm="none"),
        spec("encoder_decoder", backbone="vgg", stages=[[1, 4], [1, 8]], head=[], decoder_width=4),
        spec("encoder_decoder", backbone="resnet", depth=8, width=4, decoder_width=4, decoder_skips=False),
    ],
    ids=[
        "unet",
        "unet without skips",
        "fcn",
        "fcn without skips",
        "deconvnet",
        "deconvnet, corners",
        "segnet",
        "encoder-decoder",
        "encoder-decoder without skips",
    ],
)
def test_images_of_any_size_get_scores_of_that_size(model, size):
    network = build(model, image_data_spec((3, *size), 5))
    assert network(torch.randn(2, 3, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_unpooling_by_indices_is_torchs(size):
    x_bchw = torch.randn(2, 3, *size)
    pooled, indices = functional.max_pool2d(x_bchw, 2, return_indices=True)
    assert torch.equal(
        unpooled(pooled, indices, size, "indices"), functional.max_unpool2d(pooled, indices, 2, output_size=size)
    )
    corners, nearest = (unpooled(pooled, indices, size, how) for how in ("corner", "nearest"))
    assert torch.equal(corners[..., 0:6:2, 0:8:2], pooled)
    assert corners.count_nonzero() == pooled.numel()
    assert torch.equal(functional.max_pool2d(nearest, 2), functional.avg_pool2d(nearest, 2))


@pytest.mark.parametrize("source", ["torchvision/fcn_resnet50", "smp/Unet"])
def test_a_package_gives_with_our_builder_what_it_gives_by_itself(source):
    data = image_data_spec((3, 64, 64), 5)
    ours = build(spec(source), data).eval()
    if source.startswith("smp"):
        theirs = smp.Unet(encoder_weights=None, classes=5).eval()
    else:
        theirs = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5).eval()
    theirs.load_state_dict(ours.state_dict())
    x_bchw = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        given, expected = ours(x_bchw), theirs(x_bchw)
    if isinstance(given, dict):
        given, expected = given["out"], expected["out"]
    assert torch.equal(given, expected)
    assert given.shape == (2, 5, 64, 64)


def test_the_segmentation_networks_of_torchvision_are_all_named():
    assert set(torchvision.models.list_models(module=torchvision.models.segmentation)) == set(TORCHVISION_SEGMENTATION)


def test_the_encoder_computes_what_its_classification_network_computes_and_takes_over_its_weights():
    data = image_data_spec((3, 32, 32), 5)
    backbone = build(spec("vgg", stages=((1, 4), (1, 8)), head=(6,)), data)
    network = build(spec("encoder_decoder", backbone="vgg", stages=[[1, 4], [1, 8]], head=[6], decoder_width=4), data)
    decoder = {name: value.clone() for name, value in network.head.state_dict().items()}
    load_fitting_weights(network, backbone.state_dict(), head="new", origin="backbone")
    x_bchw = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.stage2(network.stage1(x_bchw)), backbone.stage2(backbone.stage1(x_bchw)))
    assert all(torch.equal(value, decoder[name]) for name, value in network.head.state_dict().items())
    assert heads_of(network) == ("head",)


@pytest.mark.parametrize(
    ("keys", "field", "message"),
    [
        ({"backbone": "resnett"}, "backbone", "nearest: resnet"),
        ({"backbone": "unet"}, "backbone", "unet is no network that classifies images"),
        ({"backbone": "resnet18", "widht": 3}, "widht", "unknown key; nearest valid key: width"),
        ({"backbone": "resnet", "depth": 21}, "depth", ""),
    ],
)
def test_a_backbone_that_cannot_be_is_refused_at_its_key(keys, field, message):
    with pytest.raises(ValidationError) as raised:
        spec("encoder_decoder", **keys)
    error = raised.value.errors()[0]["ctx"]["error"]
    assert error.field == field
    assert message in str(error)


@pytest.mark.parametrize("backbone", ["vit_b_16", "googlenet"])
def test_a_backbone_without_maps_is_refused(backbone):
    with pytest.raises(UserError, match="makes no maps of an image layer by layer"):
        count(spec("encoder_decoder", backbone=backbone), image_data_spec((3, 224, 224), 5))


def test_without_skips_the_decoder_has_fewer_weights_and_never_sees_the_encoders_maps():
    data = image_data_spec((3, 16, 16), 2)
    assert count(spec("unet", width=8, skip=False), data).params < count(spec("unet", width=8), data).params


def test_upsampling_begins_as_bilinear_interpolation():
    x_bchw = torch.randn(1, 2, 5, 7)
    upsampled = bilinear_upsampling(2, 4)(x_bchw)
    expected = functional.interpolate(x_bchw, scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(upsampled[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [spec("unet", depth=5), spec("fcn", depth=11), spec("segnet", depth=11), spec("deconvnet", depth=11, kernel=1)],
    ids=["unet", "fcn", "segnet", "deconvnet"],
)
def test_images_that_are_too_small_are_refused_with_the_size_that_fits(model):
    with pytest.raises(UserError, match="32 pixels"):
        build(model, image_data_spec((3, 31, 40), 2))


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        ("{name: fcn, depth: 16}", "classification", "fcn gives a score for each class at every pixel, and the task"),
        (
            "{name: resnet, depth: 20}",
            "segmentation",
            "resnet gives one score for each class of an image, and the task",
        ),
    ],
)
def test_a_network_that_gives_something_else_than_the_task_needs_is_refused_by_name(model, task, message, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(f"data: digits\nmodel: {model}\ntask: {task}\noptimizer: sgd\n")
    with pytest.raises(ExperimentInvalid) as raised:
        load(file)
    (problem,) = raised.value.problems
    assert (problem.line, problem.key) == (2, "model")
    assert message in problem.message
    assert ("unet" in problem.message) == (task == "segmentation")
