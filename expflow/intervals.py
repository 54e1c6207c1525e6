"""Means and their 95 % intervals (docs/inference.md): by Student's t, and of shares on the scale of the logit.

``scipy.special`` is used instead of ``scipy.stats``, which takes twice as long to import, and is imported when the
first interval is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from expflow.metrics import is_share

IntervalKind = Literal["none", "range", "t", "logit"]

CONFIDENCE = 0.95

_SAME = 1e-12
"""Shares whose deviation is below this are one share and rounding errors."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its uncertainty.

    Attributes:
        mean: The mean.
        n: Of how many numbers.
        low: Lower end of the interval; None where there is no interval.
        high: Upper end of it.
        kind: ``none`` (one number: no interval), ``range`` (two: lowest and highest), ``t`` (95 % t interval) or
            ``logit`` (of a share: 95 % t interval on the scale of the logit, which stays between 0 and 1).
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    kind: IntervalKind = "none"


def mean_error(spread: float, n: int, overlap: float = 0.0) -> float:
    """The standard error of a mean over seeds.

    Args:
        spread: The standard deviation over seeds.
        n: Number of seeds.
        overlap: Samples of val by those of train, where each training has a val split of its own: such trainings share
            most of their samples, so that further ones tell less than independent ones would. 0: they share the split.

    Source: C. Nadeau and Y. Bengio, Inference for the generalization error, Machine Learning 52, 2003, section 3.
    """
    return spread * math.sqrt(1 / n + overlap)


def metric_estimate(metric: str, values: Sequence[float], samples: int | None = None, overlap: float = 0.0) -> Estimate:
    """Mean and interval of a metric over seeds: :func:`share_estimate` of a share, :func:`estimate` of any other.

    Args:
        metric: A reported name with its split.
        values: One value for each seed.
        samples: How many samples each value was measured on, where that is known.
        overlap: As of :func:`mean_error`.

    Raises:
        ValueError: There are no values.
    """
    if is_share(metric) and all(0.0 <= value <= 1.0 for value in values):
        return share_estimate(values, samples, overlap)
    return estimate(values, overlap)


def estimate(values: Sequence[float], overlap: float = 0.0) -> Estimate:
    """Mean and interval of some numbers: none of one, the range of two, a 95 % t interval of three or more.

    Args:
        values: The numbers, one for each seed.
        overlap: As of :func:`mean_error`.

    Raises:
        ValueError: There are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values to estimate from")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, 1)
    if n == 2:
        return Estimate(mean, 2, min(values), max(values), "range")
    half = t_quantile((1 + CONFIDENCE) / 2, n - 1) * mean_error(deviation(values), n, overlap)
    return Estimate(mean, n, mean - half, mean + half, "t")


def share_estimate(values: Sequence[float], samples: int | None = None, overlap: float = 0.0) -> Estimate:
    """Mean and interval of a share over seeds: what other seeds would give on the same samples.

    With three seeds or more the interval is Student's on the scale of the logit. Half a sample is added to either
    side of the mean, and the deviation is at least half a sample, so that seeds that agree by chance, or get everything
    right, still have an interval.

    Args:
        values: The shares, 0 to 1, one for each seed.
        samples: How many samples each was measured on; None where that is not known: then seeds that agree have no
            interval.
        overlap: As of :func:`mean_error`.

    Raises:
        ValueError: There are no values.
    """
    n = len(values)
    plain = estimate(values, overlap)
    if n < 3:
        return plain
    spread = deviation(values)
    if samples is None:
        if spread < _SAME or not 0.0 < plain.mean < 1.0:
            return Estimate(plain.mean, n)
        centre = plain.mean
    else:
        spread = max(spread, 1 / (2 * samples))
        centre = shrunken(plain.mean, samples * n)
    low, high = logit_interval(centre, mean_error(spread, n, overlap), n - 1)
    return Estimate(plain.mean, n, low, high, "logit")


def shrunken(share: float, samples: float) -> float:
    """A share with half a sample more on either side: never 0 nor 1.

    Args:
        share: The share, 0 to 1.
        samples: Of how many samples it is.
    """
    return (share * samples + 0.5) / (samples + 1)


def logit_interval(centre: float, error: float, freedom: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval of a share on the scale of the logit, whose ends lie between 0 and 1.

    Args:
        centre: The share, above 0 and below 1.
        error: Its standard error on the scale of shares; the delta method divides it by ``centre * (1 - centre)``.
        freedom: Degrees of freedom.
        confidence: The probability that the interval covers the share.

    Source: A. Agresti, Categorical Data Analysis, 2002, section 14.1 (the delta method).
    """
    middle = math.log(centre / (1 - centre))
    half = t_quantile((1 + confidence) / 2, freedom) * error / (centre * (1 - centre))
    return _share_of_logit(middle - half), _share_of_logit(middle + half)


def _share_of_logit(logit: float) -> float:
    if logit >= 0:
        return 1 / (1 + math.exp(-min(logit, 700.0)))
    odds = math.exp(max(logit, -700.0))
    return odds / (1 + odds)


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1 in the denominator).

    Args:
        values: At least two numbers.
    """
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def t_quantile(probability: float, freedom: float) -> float:
    """A quantile of Student's t distribution.

    Args:
        probability: Probability below the quantile.
        freedom: Degrees of freedom.
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


@dataclass(frozen=True)
class TwoWayError:
    """The error of a mean over seeds and images, for other seeds and other images.

    Attributes:
        variance: Of the mean.
        freedom: Degrees of freedom of its estimate (Satterthwaite).
    """

    variance: float
    freedom: float


def two_way_error(
    seed_spread: float,
    n: int,
    image_spread: float,
    images: int,
    *,
    residual_spread: float = 0.0,
    seed_freedom: float = 0.0,
) -> TwoWayError:
    """The error of a mean over ``n`` seeds and some images, from how much the means of both differ.

    What seeds and images do together (an image that one training learns and another does not) is in both spreads: left
    there, the variance is rather too large than too small; where ``residual_spread`` is given, it counts once.

    Args:
        seed_spread: Standard deviation over seeds of the means over images.
        n: Number of seeds, at least two.
        image_spread: Standard deviation over images of the means over seeds.
        images: Number of images, at least two.
        residual_spread: Standard deviation of what is left when the means of seeds and images are taken away.
        seed_freedom: Degrees of freedom of ``seed_spread``; by default n - 1.

    Source: F. E. Satterthwaite, An approximate distribution of estimates of variance components, 1946.
    """
    freedom = seed_freedom or n - 1.0
    by_seed = seed_spread**2 / n
    variance = max(by_seed, by_seed + (image_spread**2 - residual_spread**2 / n) / images)
    most = max(freedom, images - 1.0)
    satterthwaite = freedom * variance / by_seed if by_seed > 0 else most
    return TwoWayError(variance, min(max(satterthwaite, freedom), most))
