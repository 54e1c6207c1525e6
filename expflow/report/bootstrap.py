"""Bootstrap intervals over the choice of images, from predictions sample by sample.

They are about the trained networks at hand: what other images would have given for them. Intervals over seeds are in
:mod:`expflow.report.statistics`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expflow.intervals import CONFIDENCE

RESAMPLES = 9999
"""Resamples of a bootstrap: the ends of its interval then lie on the 250th value from either side."""
_SEED = 20_100
"""Seed of the resampling, so that the same predictions give the same interval."""
_PIECE = 4_000_000
"""Numbers that are drawn at once."""


@dataclass(frozen=True)
class ImageInterval:
    """A mean over images and its interval over their choice.

    Attributes:
        mean: The mean over the images.
        n: Number of images.
        low: Lower end of the 95 % interval; None with one image, which gives no interval.
        high: Upper end of it.
    """

    mean: float
    n: int
    low: float | None
    high: float | None


def bootstrap_mean(values: ArrayLike, resamples: int = RESAMPLES) -> ImageInterval:
    """The mean over images with its percentile interval: images are drawn anew with replacement.

    Args:
        values: (n,) one value for each image. Where several networks saw an image, its value is their mean, so that
            images and not networks are drawn.
        resamples: How many times n images are drawn.

    Raises:
        ValueError: There is no value, or one that is not finite.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not array.size or not np.isfinite(array).all():
        raise ValueError("a bootstrap needs at least one value, and finite ones alone")
    mean = float(array.mean())
    if array.size == 1:
        return ImageInterval(mean, 1, None, None)
    return percentile_interval(mean, array.size, _means(array, resamples))


def percentile_interval(value: float, n: int, resampled: ArrayLike) -> ImageInterval:
    """A value of ``n`` images with the percentile interval of what resamples of the images gave.

    Args:
        value: The value of the images themselves.
        n: Number of images.
        resampled: The value of each resample.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.asarray(resampled), [tail, 1 - tail])
    return ImageInterval(value, n, float(low), float(high))


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
