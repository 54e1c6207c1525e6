"""Uncertainty over the choice of images, from predictions sample by sample: the bootstrap, and McNemar's test.

Both are about the trained networks at hand: what other images would have said of them. What other seeds would have
given is the t interval's matter (:mod:`expflow.report.statistics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from expflow.report.statistics import CONFIDENCE

RESAMPLES = 9999
"""Resamples of a bootstrap: the ends of its interval then lie on the 250th value from either side."""
_SEED = 20_100
"""Of the resampling, so that the same predictions give the same interval."""
_PIECE = 4_000_000
"""Numbers that are drawn at once."""


@dataclass(frozen=True)
class ImageInterval:
    """The mean over ``n`` images, and the 95 % percentile bootstrap interval over their choice.

    ``low`` and ``high`` are None with one image, which says nothing of others.
    """

    mean: float
    n: int
    low: float | None
    high: float | None


def bootstrap(values: ArrayLike, resamples: int = RESAMPLES) -> ImageInterval:
    """The mean of ``values``, one for each image, with its percentile interval (Efron and Tibshirani, An Introduction
    to the Bootstrap, 1993, section 13.3): images are drawn anew with replacement, ``resamples`` times.

    Where an image was seen by several networks, its value is their mean, so that images and not networks are drawn.
    Raises ValueError without values, or with one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not array.size or not np.isfinite(array).all():
        raise ValueError("a bootstrap needs at least one value, and finite ones alone")
    mean = float(array.mean())
    if array.size == 1:
        return ImageInterval(mean, 1, None, None)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(_means(array, resamples), [tail, 1 - tail])
    return ImageInterval(mean, array.size, float(low), float(high))


def _means(values: NDArray[np.float64], resamples: int) -> NDArray[np.float64]:
    """Means of resamples. Only how often each distinct value is drawn matters: hits of a few networks have few."""
    distinct, counts = np.unique(values, return_counts=True)
    generator = np.random.default_rng(_SEED)
    shares, means = counts / values.size, np.empty(resamples)
    at_once = max(1, _PIECE // distinct.size)
    for first in range(0, resamples, at_once):
        drawn = generator.multinomial(values.size, shares, size=min(at_once, resamples - first))
        means[first : first + len(drawn)] = drawn @ distinct / values.size
    return means


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same ``n`` images: how many only the first one got right, and only the second one.

    ``p`` is the exact two-sided probability of a split at least as uneven, were both equally good.
    """

    n: int
    only_first: int
    only_second: int
    p: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Exact test of two classifiers by their hits (n,) on the same images in the same order.

    Only images on which they disagree tell them apart (Q. McNemar, Psychometrika 12, 1947); under the null hypothesis
    each falls to either side like a fair coin, so p is a binomial probability, doubled and at most 1 (T. G.
    Dietterich, Neural Computation 10, 1998, recommends the test for networks that are trained once).
    Raises ValueError where the two are not of one length.
    """
    left, right = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"hits of the same images are needed, found {left.shape} and {right.shape}")
    one, other = int((left & ~right).sum()), int((right & ~left).sum())
    p = 2 * float(bdtr(min(one, other), one + other, 0.5)) if one + other else 1.0
    return McNemar(left.size, one, other, min(1.0, p))


def mean_hits(hits: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """(n,) the share of networks that got each image right; ``hits`` has (n,) of each network."""
    found: NDArray[np.float64] = np.mean([np.asarray(each, dtype=np.float64) for each in hits], axis=0)
    return found
