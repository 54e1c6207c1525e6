"""How far made images lie from real ones, in the features of a trained classifier: two distances of distributions.

- ``kid`` (Binkowski et al. 2018, "Demystifying MMD GANs", section 4): the unbiased estimate of the squared maximum mean
  discrepancy under the kernel (x . y / features + 1)^3. It may be negative.
- ``frechet_distance`` (Heusel et al. 2017, equation 6): |m - m'|^2 + tr(C + C' - 2 (C C')^1/2) of moments.
  It has a bias that falls with the number of images, so only distances at equal numbers compare.

Both are of the classifier that the recipe names; with another one they are other numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance as FrechetDistance  # its features are given to it here
from torchmetrics.image.kid import KernelInceptionDistance as KernelDistance

from expflow.architectures.heads import heads_of
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

IMAGES_PER_FEATURE = 10
"""Fewest images of a split for each feature: a covariance of fewer is mostly noise."""


class ClassifierFeatures:
    """What a trained classifier gives to its last layer.

    Args:
        network: The classifier, with its weights.
        data_spec: The data that it was trained on.
        origin: Where it is from, for messages.

    Raises:
        UserError: It has no head, or that is given something else than features.
    """

    def __init__(self, network: nn.Module, data_spec: DataSpec, origin: str) -> None:
        self._network, self._spec, self.origin = network.eval().requires_grad_(False), data_spec, origin
        self._entering: list[Tensor] = []
        network.get_submodule(heads_of(network)[0]).register_forward_pre_hook(self._keep)
        shape = (2, *data_spec.image_shape)
        self.numbers = self.of(torch.full(shape, 128.0)).shape[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the images that it takes."""
        return self._spec.image_shape

    def _keep(self, head: nn.Module, entering: tuple[Any, ...]) -> None:
        self._entering.append(entering[0])

    @torch.no_grad()
    def of(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) images of 0 to 255 -> (b, features).

        Args:
            image_bchw: The images; they are rounded, as real ones are.
        """
        self._network.to(image_bchw.device)
        mean, std = (
            torch.tensor(values, device=image_bchw.device).view(-1, 1, 1) * 255
            for values in (self._spec.mean, self._spec.std)
        )
        self._entering.clear()
        self._network((image_bchw.float().clamp(0, 255).round() - mean) / std)
        features = self._entering.pop().float()
        if features.ndim == 4:
            features = features.mean((2, 3))
        return features.flatten(1)


class FeatureDistance:
    """Collects the features of real and of made images, batch by batch.

    Args:
        features: The classifier.
        left_out: Numbers of images of splits that are too small for its features.
    """

    def __init__(self, features: ClassifierFeatures, left_out: frozenset[int] = frozenset()) -> None:
        self._features, self._left_out = features, left_out
        self._rows: list[Tensor] = []

    def add(self, real_bchw: Tensor, made_bchw: Tensor, valid_b: Tensor) -> None:
        """Add a batch.

        Args:
            real_bchw: Real images, from 0 to 255.
            made_bchw: As many made ones.
            valid_b: (b,), false for padding.
        """
        real, made = self._features.of(real_bchw), self._features.of(made_bchw)
        self._rows.append(torch.cat([real, made, valid_b[:, None].float()], 1))

    def take(self) -> Tensor:
        """(n, 2 features + 1): all features, and whether they count; then it begins anew."""
        rows, self._rows = self._rows, []
        return torch.cat(rows)

    def measured(self, rows: Tensor) -> Mapping[str, Tensor]:
        """:func:`feature_distances`; empty for a split that is too small.

        Args:
            rows: What :meth:`take` gave, of all ranks.
        """
        return {} if int((rows[:, -1] > 0).sum()) in self._left_out else feature_distances(rows)


@torch.no_grad()
def feature_distances(rows: Tensor) -> Mapping[str, Tensor]:
    """``kid`` and ``frechet_distance`` (); no numbers where there are not two images.

    Args:
        rows: What :meth:`FeatureDistance.take` gave, of all ranks.
    """
    counted = rows[rows[:, -1] > 0, :-1].double()
    if len(counted) < 2:
        return {name: rows.new_full((), torch.nan) for name in ("kid", "frechet_distance")}
    real, made = counted.chunk(2, 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance`")  # that it keeps features: it has to
        kernel = KernelDistance(nn.Identity(), subsets=1, subset_size=len(real), sync_on_compute=False)
    moments = FrechetDistance(_given(real.shape[1]), sync_on_compute=False)
    for metric in (kernel, moments):
        metric.to(rows.device)
        metric.update(real, real=True)
        metric.update(made, real=False)
    with torch.random.fork_rng(devices=[]):  # a subset of all of them is drawn in an order that changes nothing
        kid, _ = kernel.compute()
    return {"kid": kid, "frechet_distance": moments.compute()}


def _given(numbers: int) -> nn.Module:
    """A network of features that are computed already."""
    network = nn.Identity()
    network.num_features = numbers  # type: ignore[assignment]
    return network


def distance_on(features: ClassifierFeatures, data_spec: DataSpec) -> FeatureDistance:
    """The distance of images of a trial's data, which leaves out splits other than val that are too small.

    Args:
        features: The classifier.
        data_spec: The data of the trial.

    Raises:
        UserError: It takes other images, or val has too few for its features.
    """
    if features.shape != data_spec.image_shape:
        raise UserError(
            f"task.features: {features.origin} takes images of shape {features.shape}, and these have"
            f" {data_spec.image_shape} (channels, height, width)"
        )
    needed, there = IMAGES_PER_FEATURE * features.numbers, data_spec.samples.get("val", 0)
    if there < needed:
        raise UserError(
            f"task.features: {features.origin} gives {features.numbers} features, whose covariance needs at least"
            f" {needed} images of val, and there are {there}; take more (data.val_fraction) or a narrower classifier"
        )
    return FeatureDistance(features, frozenset(number for number in data_spec.samples.values() if number < needed))
