"""The tests that the rules of inference (docs/inference.md) need, from the t distributions alone.

``scipy.special`` is used instead of ``scipy.stats``, which takes twice as long to import; tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr, stdtr

from expflow.intervals import CONFIDENCE, Estimate, deviation, estimate, mean_error, t_quantile

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 1000
"""Above this many seeds the answer is only "more than": so many are not trained, and the effect is tiny."""

_SLICES = 1000
"""Slices of an integral that is needed to two digits."""

_SAME = 1e-10
"""Differences whose spread is below this share of the values are rounding errors around one number."""


@dataclass(frozen=True)
class PairedTest:
    """A t test on paired differences.

    Attributes:
        difference: The mean difference and its interval.
        p: The probability of the test; None where no test can be made.
        effect: What was tested against zero, in standard deviations of the differences.
        bound: The one-sided 95 % lower bound of the mean difference.
        why: Why no test can be made.
    """

    difference: Estimate
    p: float | None = None
    effect: float | None = None
    bound: float | None = None
    why: str = ""


def paired_test(
    of: Sequence[float], against: Sequence[float], margin: float | None = None, overlap: float = 0.0
) -> PairedTest:
    """Test the mean of ``of[i] - against[i]``.

    Identical differences give no p value: their spread cannot be estimated, and accuracies are so coarse (one image
    in a few hundred) that two equal differences happen by chance.

    Args:
        of: Values of the one side, at least one.
        against: Values of the other side, in the same order of seeds.
        margin: None for a two-sided test against zero; otherwise the test is one-sided: is the mean difference above
            ``-margin``?
        overlap: As of :func:`~expflow.intervals.mean_error`.
    """
    differences = [left - right for left, right in zip(of, against, strict=True)]
    difference = estimate(differences, overlap)
    n = len(differences)
    if n < 2:
        return PairedTest(difference, why="one pair of runs cannot be tested")
    spread = deviation(differences)
    if spread <= _SAME * max(abs(value) for value in (*of, *against)):
        return PairedTest(difference, why=f"the difference is the same in all {n} pairs, so its spread is not known")
    error = mean_error(spread, n, overlap)
    shifted = difference.mean + (margin or 0.0)
    t = shifted / error
    # upper tails as lower tails of -t: small p values keep their digits
    p = 2 * float(stdtr(n - 1, -abs(t))) if margin is None else float(stdtr(n - 1, -t))
    bound = difference.mean - t_quantile(CONFIDENCE, n - 1) * error
    return PairedTest(difference, min(1.0, p), shifted / spread, bound)


def interval_at(level: float, differences: Sequence[float], overlap: float = 0.0) -> tuple[float, float]:
    """The t interval of a mean that leaves out zero where a two-sided test at this level is significant.

    Args:
        level: The level of the test.
        differences: At least two numbers.
        overlap: As of :func:`~expflow.intervals.mean_error`.
    """
    mean, n = math.fsum(differences) / len(differences), len(differences)
    half = t_quantile(1 - level / 2, n - 1) * mean_error(deviation(differences), n, overlap)
    return mean - half, mean + half


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment.

    Args:
        p_values: One for each declared contrast. One that could not be tested (None) was declared all the same, so it
            counts in the number of tests.

    Returns:
        The adjusted values in the same order.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    count = len(p_values)
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * count
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (count - rank) * p))
        adjusted[index] = highest
    return adjusted


def power(effect: float, n: int, alpha: float = ALPHA, *, one_sided: bool = False, overlap: float = 0.0) -> float:
    """Probability that a paired t test resolves an effect.

    The statistic then follows a noncentral t distribution with noncentrality ``effect * sqrt(n)``.

    Args:
        effect: Mean difference in units of the differences' standard deviation.
        n: Number of pairs.
        alpha: Level of the test.
        one_sided: Whether the test is one-sided.
        overlap: As of :func:`~expflow.intervals.mean_error`.

    Source: J. Cohen, Statistical Power Analysis, 1988, section 2.2.
    """
    shift = effect / mean_error(1.0, n, overlap)
    if one_sided:
        return 1.0 - noncentral_t(t_quantile(1 - alpha, n - 1), n - 1, shift)
    critical = t_quantile(1 - alpha / 2, n - 1)
    return 1.0 - noncentral_t(critical, n - 1, abs(shift)) + noncentral_t(-critical, n - 1, abs(shift))


def noncentral_t(value: float, freedom: int, shift: float) -> float:
    """P(T <= value): the normal probability, averaged over the distribution of the estimated deviation.

    ``scipy.special.nctdtr`` gives nan far out in the tails, where the search for a sample size needs values.

    Args:
        value: Where the distribution is asked for.
        freedom: Degrees of freedom.
        shift: The noncentrality.
    """
    return float(np.mean(ndtr(value * _chi_slices(freedom) - shift)))


@cache
def _chi_slices(freedom: int) -> NDArray[np.float64]:
    """Estimated deviations of a normal sample with deviation 1, in equal slices of their distribution."""
    shares = (np.arange(_SLICES) + 0.5) / _SLICES
    slices: NDArray[np.float64] = np.sqrt(2 * gammaincinv(freedom / 2, shares) / freedom)
    return slices


def seeds_needed(effect: float, alpha: float = ALPHA, *, one_sided: bool = False, overlap: float = 0.0) -> int | None:
    """The smallest number of pairs that resolves an effect with power 0.8; None above ``MOST_SEEDS``.

    It is computed for the observed effect, which a few seeds estimate only roughly: an order of magnitude.

    Args:
        effect: Mean difference in units of the differences' standard deviation.
        alpha: Level of the test.
        one_sided: Whether the test is one-sided.
        overlap: As of :func:`~expflow.intervals.mean_error`; then no number may suffice.
    """
    if effect == 0.0 or not math.isfinite(effect) or (one_sided and effect < 0):
        return None
    low, high = 1, MOST_SEEDS
    if power(effect, high, alpha, one_sided=one_sided, overlap=overlap) < POWER:
        return None
    while high - low > 1:  # power grows with n
        middle = (low + high) // 2
        if power(effect, middle, alpha, one_sided=one_sided, overlap=overlap) >= POWER:
            high = middle
        else:
            low = middle
    return high
