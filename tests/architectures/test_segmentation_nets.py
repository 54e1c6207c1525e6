"""Networks that give a score for each class at every pixel: what the papers say of them, and who may use them."""

import pytest
import torch
from torch.nn import functional

from expflow.architectures import build, count
from expflow.architectures.catalogue import image_data_spec
from expflow.architectures.fcn import bilinear_upsampling
from expflow.config import load
from expflow.errors import ExperimentInvalid, UserError
from expflow.registry import MODELS


def spec(name, **keys):
    return MODELS.spec(name)(name=name, **keys)


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
    ],
    ids=["unet", "unet without skips", "fcn", "fcn without skips"],
)
def test_images_of_any_size_get_scores_of_that_size(model, size):
    network = build(model, image_data_spec((3, *size), 5))
    assert network(torch.randn(2, 3, *size)).shape == (2, 5, *size)


def test_without_skips_the_decoder_has_fewer_weights_and_never_sees_the_encoders_maps():
    data = image_data_spec((3, 16, 16), 2)
    assert count(spec("unet", width=8, skip=False), data).params < count(spec("unet", width=8), data).params


def test_upsampling_begins_as_bilinear_interpolation():
    x_bchw = torch.randn(1, 2, 5, 7)
    upsampled = bilinear_upsampling(2, 4)(x_bchw)
    expected = functional.interpolate(x_bchw, scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(upsampled[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], atol=1e-5)


@pytest.mark.parametrize("model", [spec("unet", depth=5), spec("fcn", depth=11)], ids=["unet", "fcn"])
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
