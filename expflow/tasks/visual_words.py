"""Vocabularies of local descriptors, and what an image is in their words: histograms, Fisher vectors, pyramids."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from expflow.tasks.local_descriptors import LocalDescriptors


def words_histogram(values_bnd: Tensor, centres_kd: Tensor) -> Tensor:
    """(b, n, k) one-hot: the nearest word of each descriptor, by Euclidean distance.

    Args:
        values_bnd: (b, n, d) descriptors.
        centres_kd: (k, d) words.

    Source:
        Csurka et al., Visual Categorization with Bags of Keypoints, 2004, section 2.
    """
    distances = centres_kd.square().sum(1) - 2 * values_bnd @ centres_kd.T  # but for |x|^2, which all words share
    nearest = distances.argmin(2, keepdim=True)
    return torch.zeros_like(distances).scatter_(2, nearest, 1.0)


def fisher_scores(values_bnd: Tensor, weights_k: Tensor, means_kd: Tensor, variances_kd: Tensor) -> Tensor:
    """(b, n, 2 * k * d) gradients of each descriptor's log-likelihood in means and deviations, in units of their own.

    Args:
        values_bnd: (b, n, d) descriptors x.
        weights_k: (k,) shares w of the components, positive.
        means_kd: (k, d) means mu.
        variances_kd: (k, d) diagonals of the covariances, sigma^2.

    Source:
        Perronnin et al., Improving the Fisher Kernel for Large-Scale Image Classification, 2010, equations 7 and 8:
        with gamma the share of a component in x, gamma (x - mu) / sigma / sqrt(w) and
        gamma ((x - mu)^2 / sigma^2 - 1) / sqrt(2 w).
    """
    deviations = variances_kd.sqrt()
    scaled = (values_bnd[:, :, None] - means_kd) / deviations
    logs = weights_k.log() - deviations.log().sum(1) - 0.5 * scaled.square().sum(3)
    shares = logs.softmax(2)[..., None]
    in_means = shares * scaled / weights_k.sqrt()[:, None]
    in_deviations = shares * (scaled.square() - 1) / (2 * weights_k).sqrt()[:, None]
    return torch.cat([in_means.flatten(2), in_deviations.flatten(2)], 2)


def pyramid_cells(levels: int) -> int:
    """Cells of a pyramid: 1 + 4 + 16 + …

    Args:
        levels: Levels above the whole image.
    """
    return sum(4**level for level in range(levels + 1))


def pooled(scores_bnf: Tensor, descriptors: LocalDescriptors, levels: int) -> Tensor:
    """(b, cells * f) sums over the cells of each level, over the image's number of descriptors, and weighted.

    Level 0 counts 1 / 2^L, level l 1 / 2^(L - l + 1). An image without descriptors has zeros.

    Args:
        scores_bnf: (b, n, f) what each descriptor counts for.
        descriptors: Where they lie, and which are there.
        levels: L, the levels above the whole image.

    Source:
        Lazebnik et al., Beyond Bags of Features, 2006, equation 3.
    """
    present = descriptors.present.float()
    share = present / present.sum(1, keepdim=True).clamp(min=1)
    parts = []
    for level in range(levels + 1):
        side = 2**level
        cell = (descriptors.places.clamp(0, 1) * side).long().clamp(max=side - 1)
        cells = torch.nn.functional.one_hot(cell[..., 0] * side + cell[..., 1], side * side).float()
        weight = 2.0 ** -(levels - max(level, 1) + 1) if levels else 1.0
        parts.append(weight * torch.einsum("bnc,bnf->bcf", cells * share[..., None], scores_bnf).flatten(1))
    return torch.cat(parts, 1)


def normalised(features_bf: Tensor, power: float) -> Tensor:
    """Each number to a power, with its sign, and each row at length 1; rows of zeros stay.

    Args:
        features_bf: (b, f) features.
        power: From 0 to 1.

    Source:
        Perronnin et al. 2010, sections 3.1 and 3.2.
    """
    signed = features_bf.sign() * features_bf.abs().pow(power)
    return torch.nn.functional.normalize(signed, dim=1)


class DescriptorSample:
    """A uniform sample of all descriptors of a pass, which is seen once.

    Each descriptor gets a random number, and those with the smallest are kept.

    Args:
        size: How many are kept.
        seed: Of the random numbers.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._generator = size, torch.Generator().manual_seed(seed % 2**63)
        self._keys, self._values = torch.empty(0, dtype=torch.float64), torch.empty(0, 0)

    def add(self, values_nd: Tensor) -> None:
        """Take some more.

        Args:
            values_nd: (n, d) descriptors.
        """
        keys = torch.rand(len(values_nd), generator=self._generator, dtype=torch.float64)
        keys = torch.cat([self._keys, keys])
        values = torch.cat([self._values.reshape(-1, values_nd.shape[1]), values_nd])
        kept = keys.argsort()[: self._size] if len(keys) > self._size else torch.arange(len(keys))
        self._keys, self._values = keys[kept], values[kept]

    @property
    def values(self) -> Tensor:
        """(at most ``size``, d) the descriptors that were kept."""
        return self._values


def room_for(features: int, samples: int) -> bool:
    """Whether features of all samples fit into :data:`MOST_BYTES`.

    Args:
        features: Numbers of an image.
        samples: Images.
    """
    return math.prod((features, samples, BYTES_PER_NUMBER)) <= MOST_BYTES


MOST_BYTES = 8 * 2**30
"""Memory for the features of all training images."""
BYTES_PER_NUMBER = 12
"""Of a feature, in single precision, and again in double for the classifier."""
