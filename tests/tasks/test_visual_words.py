"""Descriptors, words and pyramids against what can be worked out by hand, and against scikit-image."""

import numpy as np
import pytest
import torch
from skimage.feature import fisher_vector
from sklearn.mixture import GaussianMixture

from expflow.errors import PackageMissing
from expflow.tasks.bovw_spec import BovwSpec
from expflow.tasks.local_descriptors import LocalDescriptors, describe, descriptor_width
from expflow.tasks.visual_words import (
    DescriptorSample,
    fisher_scores,
    normalised,
    pooled,
    pyramid_cells,
    words_histogram,
)


def spec_of(**arguments):
    return BovwSpec(name="bovw", **arguments)


def random_images(count=3, channels=1, height=16, width=20):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("descriptor", ["dense", "sift", "hog", "colour"])
def test_a_grid_of_descriptors_lies_within_the_image(descriptor, channels):
    spec = spec_of(descriptor=descriptor, patch=8, stride=4)
    made = describe(random_images(channels=channels), spec)
    rows, columns = 3, 4  # (16 - 8) / 4 + 1 and (20 - 8) / 4 + 1
    assert made.values.shape == (3, rows * columns, descriptor_width(spec, channels))
    assert made.values.dtype == torch.float32
    assert made.values.isfinite().all()
    assert made.present.all()
    down, right = made.places[0].T
    assert torch.allclose(down.reshape(rows, columns)[:, 0] * 16, torch.tensor([4.0, 8, 12]))
    assert torch.allclose(right.reshape(rows, columns)[0] * 20, torch.tensor([4.0, 8, 12, 16]))


def test_dense_descriptors_do_not_see_brightness_and_contrast():
    image = random_images(1) // 4
    spec = spec_of(patch=8, stride=8)
    plain, brighter = describe(image, spec).values, describe(image * 2 + 40, spec).values
    assert torch.allclose(plain, brighter, atol=1e-5)
    assert torch.allclose(plain.norm(dim=2), torch.ones(1, 4), atol=1e-5)
    assert torch.equal(describe(torch.full((1, 1, 8, 8), 77, dtype=torch.uint8), spec).values, torch.zeros(1, 1, 64))


def test_a_colour_histogram_by_hand():
    image = torch.tensor([[0, 100], [130, 255]], dtype=torch.uint8).view(1, 1, 2, 2)
    made = describe(image, spec_of(descriptor="colour", patch=2, bins=2))
    assert made.values.tolist() == [[[0.5, 0.5]]]


def test_detected_points_may_be_none():
    images = torch.cat([torch.zeros(1, 1, 64, 64, dtype=torch.uint8), random_images(1, height=64, width=64)])
    made = describe(images, spec_of(descriptor="sift", points="detected"))
    assert made.present.sum(1)[0] == 0
    assert made.present.sum(1)[1] > 3
    assert torch.equal(pooled(made.values, made, 1)[0], torch.zeros(5 * 128))


@pytest.mark.parametrize(("descriptor", "package"), [("sift", "cv2"), ("hog", "skimage.feature")])
def test_a_missing_package_is_named(descriptor, package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(PackageMissing, match=r"expflow\[bovw\]"):
        describe(random_images(), spec_of(descriptor=descriptor))


def test_each_descriptor_counts_for_its_nearest_word():
    values = torch.tensor([[[0.1, 0.0], [0.9, 1.2], [3.0, 3.0]]])
    centres = torch.tensor([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]])
    assert words_histogram(values, centres).tolist() == [[[1, 0, 0], [0, 1, 0], [0, 1, 0]]]


def test_fisher_vectors_are_those_of_scikit_image():
    values = np.random.default_rng(0).normal(size=(200, 4))
    mixture = GaussianMixture(3, covariance_type="diag", random_state=0).fit(values)
    image = values[:30]
    expected = fisher_vector(image, mixture)[3:]  # without the gradients in the shares of the components
    arrays = [torch.from_numpy(array) for array in (mixture.weights_, mixture.means_, mixture.covariances_)]
    actual = fisher_scores(torch.from_numpy(image)[None], *arrays)[0].mean(0)
    in_means, in_deviations = np.split(actual.numpy(), 2)
    assert np.allclose(in_means, expected[:12], atol=1e-10)
    assert np.allclose(in_deviations, -expected[12:], atol=1e-10)  # theirs have the sign of the paper's turned round


def test_the_pyramid_by_hand():
    places = torch.tensor([[[0.1, 0.1], [0.1, 0.9], [0.9, 0.2], [1.0, 1.0]]])
    one_word = LocalDescriptors(torch.ones(1, 4, 1), places, torch.tensor([[True, True, True, False]]))
    whole, *quarters = pooled(one_word.values, one_word, 1)[0].tolist()
    assert whole == pytest.approx(1 / 2)
    assert quarters == pytest.approx([1 / 6, 1 / 6, 1 / 6, 0])
    assert pooled(one_word.values, one_word, 2).shape == (1, pyramid_cells(2)) == (1, 21)
    of_levels = [level.sum().item() for level in pooled(one_word.values, one_word, 2)[0].split([1, 4, 16])]
    assert of_levels == pytest.approx([1 / 4, 1 / 4, 1 / 2])  # Lazebnik et al. 2006, equation 3


def test_powers_keep_signs_and_rows_have_length_one():
    rows = normalised(torch.tensor([[-4.0, 9.0], [0.0, 0.0]]), 0.5)
    assert torch.allclose(rows, torch.tensor([[-2.0, 3.0], [0.0, 0.0]]) / 13**0.5)


def test_a_sample_is_as_likely_to_hold_the_first_as_the_last():
    held = np.zeros(40)
    for seed in range(300):
        sample = DescriptorSample(10, seed)
        for batch in torch.arange(40.0)[:, None].split(7):
            sample.add(batch)
        assert sample.values.shape == (10, 1)
        held[sample.values[:, 0].long().numpy()] += 1
    assert abs(held[:20].sum() / held.sum() - 0.5) < 0.03
    assert held.min() > 40
    few = DescriptorSample(10, 0)
    few.add(torch.arange(4.0)[:, None])
    assert sorted(few.values[:, 0].tolist()) == [0, 1, 2, 3]
