"""The little statistics that the rules of inference need (design section 11), from the t distributions alone.

``scipy.special`` is used instead of ``scipy.stats``, which takes twice as long to import; the tests hold both together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import gammaincinv, ndtr, stdtr, stdtrit

IntervalKind = Literal["none", "range", "t"]

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 1000
"""Above this many seeds the answer is only "more than": nobody trains them, and the effect is next to nothing."""

_SLICES = 1000
"""Slices of an integral that is needed to two digits."""

_SAME = 1e-10
"""Differences whose spread is below this share of the values are rounding errors around one number."""


@dataclass(frozen=True)
class Estimate:
    """A mean of ``n`` numbers and what may be said of its uncertainty (rule 3).

    ``kind`` is ``none`` (one number: no interval), ``range`` (two: lowest and highest) or ``t`` (95 % t interval).
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    kind: IntervalKind = "none"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and interval of ``values`` by rule 3. Raises ValueError when there are none."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to estimate from")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, 1)
    if n == 2:
        return Estimate(mean, 2, min(values), max(values), "range")
    half = t_quantile((1 + CONFIDENCE) / 2, n - 1) * deviation(values) / math.sqrt(n)
    return Estimate(mean, n, mean - half, mean + half, "t")


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1 in the denominator) of at least two values."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def t_quantile(probability: float, freedom: int) -> float:
    """The ``probability`` quantile of Student's t distribution."""
    return float(stdtrit(freedom, probability))


@dataclass(frozen=True)
class PairedTest:
    """A t test on paired differences. ``p`` is None where none can be made; then ``why`` says so.

    ``effect`` is what was tested against zero, in standard deviations of the differences; ``bound`` the one-sided
    95 % lower bound of the mean difference.
    """

    difference: Estimate
    p: float | None = None
    effect: float | None = None
    bound: float | None = None
    why: str = ""


def paired_test(of: Sequence[float], against: Sequence[float], margin: float | None = None) -> PairedTest:
    """Test the mean of ``of[i] - against[i]``; the two sequences are paired and of one length, at least 1.

    Without ``margin`` two-sided against zero; with it one-sided: is the mean difference above ``-margin``?
    Identical differences give no p value: their spread cannot be estimated, and accuracies are so coarse (one image
    in a few hundred) that two equal differences happen by chance.
    """
    differences = [left - right for left, right in zip(of, against, strict=True)]
    difference = estimate(differences)
    n = len(differences)
    if n < 2:
        return PairedTest(difference, why="one pair of runs cannot be tested")
    spread = deviation(differences)
    if spread <= _SAME * max(abs(value) for value in (*of, *against)):
        return PairedTest(difference, why=f"the difference is the same in all {n} pairs, so its spread is not known")
    error = spread / math.sqrt(n)
    shifted = difference.mean + (margin or 0.0)
    t = shifted / error
    # upper tails as lower tails of -t: small p values keep their digits
    p = 2 * float(stdtr(n - 1, -abs(t))) if margin is None else float(stdtr(n - 1, -t))
    bound = difference.mean - t_quantile(CONFIDENCE, n - 1) * error
    return PairedTest(difference, min(1.0, p), shifted / spread, bound)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (S. Holm, 1979), in the order given.

    A contrast that could not be tested (None) was declared all the same, so it counts in the number of tests.
    """
    count = len(p_values)
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * count
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (count - rank) * p))
        adjusted[index] = highest
    return adjusted


def power(effect: float, n: int, alpha: float = ALPHA, *, one_sided: bool = False) -> float:
    """Probability that a paired t test over ``n`` pairs resolves an ``effect`` (mean / standard deviation).

    The statistic then follows a noncentral t distribution with noncentrality ``effect * sqrt(n)``
    (J. Cohen, Statistical Power Analysis, 1988, section 2.2).
    """
    shift = effect * math.sqrt(n)
    if one_sided:
        return 1.0 - _noncentral_t(t_quantile(1 - alpha, n - 1), n - 1, shift)
    critical = t_quantile(1 - alpha / 2, n - 1)
    return 1.0 - _noncentral_t(critical, n - 1, abs(shift)) + _noncentral_t(-critical, n - 1, abs(shift))


def _noncentral_t(value: float, freedom: int, shift: float) -> float:
    """P(T <= value): the normal probability, averaged over the distribution of the estimated deviation.

    ``scipy.special.nctdtr`` answers nan far out in the tails, where a search for a sample size does ask.
    """
    shares = (np.arange(_SLICES) + 0.5) / _SLICES
    deviations = np.sqrt(2 * gammaincinv(freedom / 2, shares) / freedom)  # of a chi distribution, in equal slices
    return float(np.mean(ndtr(value * deviations - shift)))


def seeds_needed(effect: float, alpha: float = ALPHA, *, one_sided: bool = False) -> int | None:
    """The smallest number of pairs that resolves ``effect`` with power 0.8; None above ``MOST_SEEDS``.

    Taken at the observed effect, which a few seeds know only roughly: an order of magnitude, not a promise.
    """
    if effect == 0.0 or not math.isfinite(effect) or (one_sided and effect < 0):
        return None
    low, high = 1, MOST_SEEDS
    if power(effect, high, alpha, one_sided=one_sided) < POWER:
        return None
    while high - low > 1:  # power grows with n
        middle = (low + high) // 2
        if power(effect, middle, alpha, one_sided=one_sided) >= POWER:
            high = middle
        else:
            low = middle
    return high
