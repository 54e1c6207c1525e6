"""Distances of images in the features of a classifier: against slow second implementations, and refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from expflow.architectures import build
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import UserError
from expflow.tasks.feature_distance import ClassifierFeatures, FeatureDistance, distance_on, feature_distances
from tests.test_house import PAGES, ROOT

IMAGES = DataSpec({"image": FieldSpec((1, 8, 8), "uint8")}, tuple("abc"), {"val": 40}, mean=(0.4,), std=(0.2,))


def rows_of(real: np.ndarray, made: np.ndarray) -> torch.Tensor:
    """With two rows of padding among them."""
    counted = np.concatenate([real, made, np.ones((len(real), 1))], 1)
    padding = np.concatenate([99 * np.ones((2, 2 * real.shape[1])), np.zeros((2, 1))], 1)
    return torch.tensor(np.concatenate([counted[:3], padding, counted[3:]])).float()


def slow_kid(x: np.ndarray, y: np.ndarray) -> float:
    """Binkowski et al. 2018, equation 4, one pair at a time."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n = len(x)
    pairs = [(i, j) for i in range(n) for j in range(n)]
    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs if i != j) / (n * (n - 1))
    return within - 2 * sum(kernel(x[i], y[j]) for i, j in pairs) / n**2


def slow_frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Dowson and Landau 1982, with a matrix square root."""
    c, d = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c @ d)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root.real))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_against_slow_ones(seed: int) -> None:
    generator = np.random.default_rng(seed)
    real, made = generator.normal(size=(60, 4)), generator.normal(0.3, 1.5, size=(60, 4))
    measured = feature_distances(rows_of(real, made))
    real, made = real.astype(np.float32).astype(float), made.astype(np.float32).astype(float)
    assert float(measured["kid"]) == pytest.approx(slow_kid(real, made), rel=1e-9)
    assert float(measured["frechet_distance"]) == pytest.approx(slow_frechet(real, made), rel=1e-6)


def test_of_one_distribution_the_kernel_distance_may_be_negative_and_the_other_is_not() -> None:
    generator = np.random.default_rng(7)
    drawn = [feature_distances(rows_of(*generator.normal(size=(2, 50, 3)))) for _ in range(20)]
    kids = [float(measured["kid"]) for measured in drawn]
    assert min(kids) < 0 < max(kids)
    assert all(float(measured["frechet_distance"]) > 0 for measured in drawn)


def test_it_draws_nothing_from_the_random_numbers_of_the_training() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    feature_distances(torch.rand(30, 5).round(decimals=3))
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), before)
    feature_distances(torch.ones(30, 5))
    assert torch.equal(torch.get_rng_state(), before)


def classifier() -> ClassifierFeatures:
    torch.manual_seed(0)
    spec = ResNetSpec(name="resnet", layout="cifar", depth=8, width=1)
    return ClassifierFeatures(build(spec, IMAGES), IMAGES, "trained/best")


def test_features_are_what_the_last_layer_is_given() -> None:
    features = classifier()
    image = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    given = features.of(image)
    assert given.shape == (5, features.numbers) == (5, 4)
    network = features._network
    scores = network((image.float() - 0.4 * 255) / (0.2 * 255))
    assert torch.allclose(network.get_submodule("head")(given), scores, atol=1e-6)
    assert torch.equal(features.of(image.float() + 0.3), given), "made images are rounded as real ones are"


def test_equal_numbers_of_both_and_padding_left_out() -> None:
    features = classifier()
    distance = FeatureDistance(features)
    image = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    valid = torch.tensor([True] * 5 + [False])
    distance.add(image, image.flip(0).float(), valid)
    distance.add(image, image.float(), valid)
    rows = distance.take()
    assert rows.shape == (12, 9)
    assert int(rows[:, -1].sum()) == 10
    with pytest.raises(RuntimeError, match="size"):
        distance.add(image, image[:3].float(), valid)


def test_too_few_images_and_other_images_are_refused() -> None:
    features = classifier()
    image = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    for test, measured in ((8, False), (7, True), (50, True)):
        spec = DataSpec(IMAGES.fields, samples={"val": 40, "test": test})
        distance = distance_on(features, spec)
        distance.add(image, image.flip(0), torch.ones(8, dtype=torch.bool))
        assert bool(distance.measured(distance.take())) == measured, "of a small split nothing is said"
    few = DataSpec(IMAGES.fields, samples={"val": 39})
    with pytest.raises(UserError, match=r"trained/best gives 4 features.*at least 40 images of val, and there are 39"):
        distance_on(features, few)
    large = DataSpec({"image": FieldSpec((3, 8, 8), "uint8")}, samples={"val": 400})
    with pytest.raises(UserError, match=r"takes images of shape \(1, 8, 8\), and these have \(3, 8, 8\)"):
        distance_on(features, large)


def test_the_network_is_no_part_of_what_is_trained() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.distance = FeatureDistance(classifier())

    assert not list(Holder().parameters())
    assert not any(parameter.requires_grad for parameter in classifier()._network.parameters())


ALLOWED = {
    # its classes, given features that are computed already
    "expflow/tasks/feature_distance.py": "torchmetrics.image.fid import FrechetInceptionDistance",
    # a name that a user's own module may log, whose direction is known
    "expflow/metrics.py": 'Metric("fid", "min", label="FID")',
}


def test_nothing_is_called_fid_where_its_network_is_not() -> None:
    paths = [*(ROOT / "expflow").rglob("*.py"), *PAGES, *(ROOT / "experiments").rglob("*.yaml")]
    for path in paths:
        name = str(path.relative_to(ROOT))
        lines = [line for line in path.read_text().splitlines() if re.search(r"\bfid\b|inception distance", line, re.I)]
        lines = [line for line in lines if "Metric `Kernel Inception Distance`" not in line]
        assert all(name in ALLOWED and ALLOWED[name] in line for line in lines), (name, lines)
