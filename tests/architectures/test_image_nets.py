"""Networks that make images, and those that judge them, are as large as the published ones."""

import pytest
import torch

from expflow.architectures import build, count
from expflow.architectures.catalogue import image_data_spec
from expflow.errors import UserError
from expflow.registry import MODELS

FAST_STYLE = {"width": 32, "blocks": 5, "kernel": 9, "norm": "instance_affine", "enlarge": "nearest"}
PUBLISHED = [
    # pytorch/examples, dcgan: 64 pixels, 100 numbers of noise
    ("dcgan_generator", {}, 64, 3_576_704),
    ("dcgan_discriminator", {}, 64, 2_765_568),
    # junyanz/pytorch-CycleGAN-and-pix2pix: unet_256, basic with 6 channels; resnet_9blocks and 6blocks, basic with 3
    ("pix2pix_generator", {}, 256, 54_413_955),
    ("patch_discriminator", {"sees": "pair"}, 256, 2_768_705),
    ("resnet_generator", {}, 256, 11_378_179),
    ("resnet_generator", {"blocks": 6}, 128, 7_837_699),
    ("patch_discriminator", {"norm": "instance"}, 256, 2_764_737),
    # pytorch/examples, fast_neural_style: the network of Johnson et al. 2016
    ("resnet_generator", FAST_STYLE, 256, 1_679_235),
    # pathak22/context-encoder: centre of 128 pixels, a code of 4,000 numbers
    ("context_encoder", {}, 128, 71_124_544),
]


def network(name, keys, size, channels=3):
    return build(MODELS.spec(name)(name=name, **keys), image_data_spec((channels, size, size), 10))


@pytest.mark.parametrize(("name", "keys", "size", "params"), PUBLISHED)
def test_it_has_as_many_parameters_as_the_published_one(name, keys, size, params):
    spec = MODELS.spec(name)(name=name, **keys)
    assert count(spec, image_data_spec((3, size, size), 10)).params == params


@pytest.mark.parametrize("size", [7, 8, 16, 28, 30, 32, 33, 48, 64, 100])
def test_dcgan_makes_and_judges_images_of_every_size(size):
    made = network("dcgan_generator", {"width": 2, "latent": 3}, size)(torch.randn(2, 3))
    assert made.shape == (2, 3, size, size)
    assert made.abs().max() <= 1
    assert network("dcgan_discriminator", {"width": 2}, size)(made).shape == (2, 1)


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_a_score_sees_a_patch_of_the_published_size(layers, patch):
    judge = network("patch_discriminator", {"width": 2, "layers": layers, "norm": "none"}, 128)
    image = torch.randn(1, 3, 128, 128, requires_grad=True)
    scores = judge(image)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    seen = image.grad.abs().sum((0, 1)).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [patch, patch]


def test_without_skips_the_decoder_sees_the_code_alone():
    full, bare = (network("pix2pix_generator", {"width": 2, "skip": skip}, 16).eval() for skip in (True, False))
    image = torch.randn(2, 3, 16, 16)
    assert full(image).shape == bare(image).shape == image.shape
    assert sum(w.numel() for w in bare.parameters()) < sum(w.numel() for w in full.parameters())


@pytest.mark.parametrize(("size", "depth"), [(256, 8), (64, 6), (28, 2), (24, 3)])
def test_maps_are_halved_as_often_as_both_sides_can_be(size, depth):
    assert len(network("pix2pix_generator", {"width": 1}, size).down) == depth


@pytest.mark.parametrize(
    ("name", "keys", "size", "message"),
    [
        ("pix2pix_generator", {}, 27, "27x27 cannot be halved"),
        ("pix2pix_generator", {"depth": 3}, 28, "cannot be divided by 8; lower model.depth to 2"),
        ("resnet_generator", {}, 30, "30x30 cannot be divided by 4"),
        ("resnet_generator", {}, 4, "at least 8x8"),
        ("patch_discriminator", {}, 16, "at least 24 pixels"),
        ("context_encoder", {}, 30, "cannot be divided by 8"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_what_to_do(name, keys, size, message):
    with pytest.raises(UserError, match=message):
        network(name, keys, size)


def test_the_network_of_fast_style_has_a_name_and_keeps_the_size():
    name, keys = MODELS.preset("fast_style").component, MODELS.preset("fast_style").arguments
    assert (name, dict(keys)) == ("resnet_generator", FAST_STYLE)
    made = network(name, {**keys, "width": 4, "blocks": 1}, 16)(torch.randn(2, 3, 16, 16))
    assert made.shape == (2, 3, 16, 16)
