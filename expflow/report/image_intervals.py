"""Intervals of means over images, for other images and for other seeds and other images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from expflow.intervals import CONFIDENCE, logit_interval, shrunken, t_quantile, two_way_error
from expflow.report.bootstrap import ImageInterval


def share_over_images(values: NDArray[np.float64]) -> ImageInterval:
    """A share over images and its 95 % interval over their choice, on the scale of the logit.

    Its standard error is at least half an image, so that networks that get every image right have an interval, too.

    Args:
        values: (N,) for each image the share of networks that got it right.
    """
    mean, n = float(values.mean()), values.size
    if n == 1:
        return ImageInterval(mean, 1, None, None)
    error = max(float(values.std(ddof=1)) / math.sqrt(n), 1 / (2 * n))
    return ImageInterval(mean, n, *logit_interval(shrunken(mean, n), error, n - 1))


def interval_over_both(values: NDArray[np.float64], *, share: bool) -> ImageInterval:
    """A mean over seeds and images and its 95 % interval for other seeds and other images.

    Args:
        values: (n, N) a row for each seed, at least two.
        share: Whether the values are of a share, whose interval is taken on the scale of the logit.
    """
    n, images = values.shape
    mean = float(values.mean())
    if images == 1:
        return ImageInterval(mean, 1, None, None)
    by_seed = float(values.mean(axis=1).std(ddof=1))
    if share:
        by_seed = max(by_seed, 1 / (2 * images))
    by_image = float(values.mean(axis=0).std(ddof=1))
    error = two_way_error(by_seed, n, by_image, images, residual_spread=_residual_spread(values))
    scale = math.sqrt(error.variance)
    if share:
        return ImageInterval(mean, images, *logit_interval(shrunken(mean, n * images), scale, error.freedom))
    half = t_quantile((1 + CONFIDENCE) / 2, error.freedom) * scale
    return ImageInterval(mean, images, mean - half, mean + half)


def _residual_spread(values: NDArray[np.float64]) -> float:
    """Standard deviation of what is left of (n, N) values without the means of rows and columns."""
    n, images = values.shape
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    return math.sqrt(float((left**2).sum()) / ((n - 1) * (images - 1)))
