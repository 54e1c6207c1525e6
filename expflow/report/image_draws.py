"""Metrics that are no means over images, such as mIoU and AP, over images drawn anew: their intervals and their test.

Each draw takes as many images as there are, with replacement, and the metric is computed of what was drawn. The same
draws are taken of each network, so that differences can be formed draw by draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expflow.intervals import CONFIDENCE, logit_interval, shrunken, t_quantile, two_way_error
from expflow.report.bootstrap import ImageInterval, percentile_interval


@dataclass(frozen=True)
class ImageDraws:
    """A metric of one network on the images of a split, and on draws of them.

    Attributes:
        ids: (N,) each image's position in its split.
        whole: The metric on the images themselves.
        drawn: (draws,) the metric on each draw; nan where a draw says nothing, such as AP without an object.
    """

    ids: NDArray[np.int64]
    whole: float
    drawn: NDArray[np.float64]


def same_draws(draws: Sequence[ImageDraws]) -> bool:
    """Whether metrics are of the same images, and of the same draws of them.

    Args:
        draws: Of several networks.
    """
    return all(
        np.array_equal(draws[0].ids, other.ids) and len(draws[0].drawn) == len(other.drawn) for other in draws[1:]
    )


def drawn_interval(draws: Sequence[ImageDraws]) -> ImageInterval | None:
    """The mean of a metric over several networks, and its percentile interval over the images that all of them saw.

    Args:
        draws: Of each network.

    Returns:
        None without networks, where they saw different images, and where fewer than two draws say something.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    if not draws or not same_draws(draws):
        return None
    n, mean = len(draws[0].ids), float(np.mean([network.whole for network in draws]))
    means = _known(np.mean([network.drawn for network in draws], axis=0)[None])[0]
    if n == 1:
        return ImageInterval(mean, 1, None, None)
    return percentile_interval(mean, n, means) if len(means) > 1 else None


def drawn_interval_over_both(draws: Sequence[ImageDraws], *, share: bool) -> ImageInterval | None:
    """The mean of a metric over several networks, and its interval for other seeds and other images.

    Args:
        draws: Of each network, at least two.
        share: Whether the metric is a share, whose interval is taken on the scale of the logit.

    Returns:
        None where they saw different images, and where fewer than two draws say something.
    """
    if len(draws) < 2 or not same_draws(draws):
        return None
    n, images = len(draws), len(draws[0].ids)
    whole = np.asarray([network.whole for network in draws])
    mean, drawn = float(whole.mean()), _known(np.stack([network.drawn for network in draws]))
    if images < 2 or drawn.shape[1] < 2:
        return None
    by_seed = float(whole.std(ddof=1))
    if share:
        by_seed = max(by_seed, 1 / (2 * images))
    by_image = image_spread(drawn, images)
    # within seeds the variance over images is v² + e² - e²/n, with e what seeds and images do together
    within = drawn.var(axis=1, ddof=1).mean() * images**2 / (images - 1)
    residual = math.sqrt(max(0.0, within - by_image**2) * n / (n - 1))
    error = two_way_error(by_seed, n, by_image, images, residual_spread=residual)
    scale = math.sqrt(error.variance)
    if share:
        return ImageInterval(mean, images, *logit_interval(shrunken(mean, n * images), scale, error.freedom))
    half = t_quantile((1 + CONFIDENCE) / 2, error.freedom) * scale
    return ImageInterval(mean, images, mean - half, mean + half)


def image_spread(drawn: NDArray[np.float64], images: int) -> float:
    """The deviation over images that a mean over them would need to vary over draws as the metric does.

    Args:
        drawn: (n, draws) the metric of each seed on each draw; its mean over seeds is what varies.
        images: Number of images in a draw, at least two.
    """
    return float(drawn.mean(axis=0).std(ddof=1)) * images / math.sqrt(images - 1)


def _known(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, draws) without the draws that say nothing for some network."""
    return drawn[:, np.isfinite(drawn).all(axis=0)]
