"""How the level of a contrast is spent over its analyses, so that asking again with more seeds misleads nobody.

A test at 5 % that is repeated with more seeds until it says yes is wrong far more often than in 5 % of cases. So each
analysis of a contrast has a share of the level, and the shares add up to 1: most of it goes to the first one, and what
is left is halved from one to the next, however many follow. No rule says when to go on or to stop: whatever users do
between two analyses, the probability of a false call over all of them stays below the level (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expflow.intervals import mean_error
from expflow.report.statistics import ALPHA, MOST_SEEDS, POWER, noncentral_t, power, seeds_needed

FIRST_SHARE, LATER_SHARE = 0.8, 0.2
"""The share of the first analysis, large, since three seeds have no power to give away; and of all later ones."""

EFFECT_CONFIDENCE = 0.5
"""Of the interval of an effect that a range of seeds is computed for: as likely as not it holds the true one."""

_LARGEST_EFFECT = 1e4
_STEPS = 60
"""Halvings of an interval in which an effect is looked for."""


def level_share(analysis: int) -> float:
    """The share of the level that an analysis may spend: 0.8, 0.1, 0.05, 0.025, …

    Args:
        analysis: Which analysis it is, from 1.
    """
    return FIRST_SHARE if analysis == 1 else LATER_SHARE * 2.0 ** -(analysis - 1)


def sequential_p(p_values: Sequence[float | None]) -> float | None:
    """One p value for all analyses of a contrast: the smallest, each divided by its share of the level.

    Args:
        p_values: One for each analysis in their order; None for one that could not be tested, which has had its share
            all the same.

    Returns:
        The value, at most 1; None where no analysis could be tested.
    """
    spent = [p / level_share(number) for number, p in enumerate(p_values, start=1) if p is not None]
    return min(1.0, *spent) if spent else None


def step_down_divisors(p_values: Sequence[float | None], level: float = ALPHA) -> list[int]:
    """By what Holm's method divides the level for each of several contrasts.

    Args:
        p_values: One for each contrast, None for one that could not be tested.
        level: The level of the family.

    Returns:
        The number of contrasts for the smallest value; one less for the next while those before are significant; for
        all others what is left then.
    """
    count, called = len(p_values), 0
    divisors = [0] * count
    for p, index in sorted((p, index) for index, p in enumerate(p_values) if p is not None):
        divisors[index] = count - called
        called += p * (count - called) <= level
    return [divisor or count - called for divisor in divisors]


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds would resolve a difference at the next analysis, with power 0.8.

    Attributes:
        low: For the largest difference that the seeds so far make likely; None for more than a thousand.
        middle: For the difference as it was observed; None for more than a thousand.
        high: For the smallest difference that they make likely; None for more than a thousand, or where they do not
            exclude that there is none.
    """

    low: int | None
    middle: int | None
    high: int | None


def seeds_for(effect: float, n: int, alpha: float, *, one_sided: bool = False, overlap: float = 0.0) -> SeedsNeeded:
    """The seeds that the next analysis needs, as a range: a few seeds estimate an effect only roughly.

    Args:
        effect: The observed mean difference in units of the differences' standard deviation.
        n: Number of seeds that it was observed with; the next analysis has more.
        alpha: The level of the next analysis.
        one_sided: Whether the test is one-sided.
        overlap: As of :func:`~expflow.intervals.mean_error`.
    """
    weak, strong = effect_interval(effect if one_sided else abs(effect), n, overlap=overlap)
    counts = [
        _more_than(n, seeds_needed(size, alpha, one_sided=one_sided, overlap=overlap)) if size > 0 else None
        for size in (strong, effect if one_sided else abs(effect), weak)
    ]
    return SeedsNeeded(*counts)


def _more_than(n: int, needed: int | None) -> int | None:
    return None if needed is None else max(needed, n + 1)


def effect_interval(
    effect: float, n: int, confidence: float = EFFECT_CONFIDENCE, *, overlap: float = 0.0
) -> tuple[float, float]:
    """The effects that an observed one makes likely.

    Args:
        effect: The observed mean difference in units of the differences' standard deviation.
        n: Number of differences.
        confidence: The probability that the interval holds the true effect.
        overlap: As of :func:`~expflow.intervals.mean_error`.

    Source: G. Cumming and S. Finch, Educational and Psychological Measurement 61, 2001 (the pivot of the noncentral t).
    """
    tail, error = (1 - confidence) / 2, mean_error(1.0, n, overlap)
    return _effect_with(effect, n, 1 - tail, error), _effect_with(effect, n, tail, error)


def _effect_with(effect: float, n: int, probability: float, error: float) -> float:
    """The effect for which one below ``effect`` is observed with this probability, which falls as the effect grows."""
    low, high = -_LARGEST_EFFECT, _LARGEST_EFFECT
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if noncentral_t(effect / error, n - 1, middle / error) > probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def resolvable_effect(n: int, alpha: float, overlap: float = 0.0) -> float | None:
    """The smallest effect that a two-sided test of n pairs resolves with power 0.8.

    Args:
        n: Number of pairs.
        alpha: The level of the test.
        overlap: As of :func:`~expflow.intervals.mean_error`.

    Returns:
        In units of the differences' standard deviation; None for fewer than two pairs.
    """
    if n < 2 or n > MOST_SEEDS:
        return None
    low, high = 0.0, _LARGEST_EFFECT
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if power(middle, n, alpha, overlap=overlap) < POWER:
            low = middle
        else:
            high = middle
    return high
