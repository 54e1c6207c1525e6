"""Rank correlations with intervals, and what is left of one when a third quantity is held fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_FEWEST = 4


@dataclass(frozen=True)
class RankCorrelation:
    """How two quantities order the same children.

    Attributes:
        value: Spearman's coefficient, partial or not.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
        children: Over how many children.
    """

    value: float
    low: float
    high: float
    children: int


def spearman(ones: Sequence[float], twos: Sequence[float]) -> RankCorrelation | None:
    """Spearman's coefficient; None for fewer than 4 pairs, or where one side does not vary.

    Args:
        ones: One value of each child.
        twos: The other.

    Source: D. Bonett and T. Wright, Sample size requirements for estimating Pearson, Kendall and Spearman correlations,
    Psychometrika 65, 2000: the standard error on Fisher's scale.
    """
    value = _coefficient(ones, twos)
    return None if value is None or len(ones) < _FEWEST else _with_interval(value, len(ones), 0)


def partial_spearman(ones: Sequence[float], twos: Sequence[float], held: Sequence[float]) -> RankCorrelation | None:
    """Spearman's coefficient of what a third quantity leaves of two; None where that is nothing, or for fewer than 5.

    Args:
        ones: One value of each child.
        twos: The other.
        held: The quantity that is held fixed.
    """
    pairs = (_coefficient(ones, twos), _coefficient(ones, held), _coefficient(twos, held))
    if len(ones) <= _FEWEST or None in pairs:
        return None
    both, first, second = (value or 0.0 for value in pairs)
    left = (1 - first * first) * (1 - second * second)
    if left < 1e-9:
        return None
    return _with_interval((both - first * second) / math.sqrt(left), len(ones), 1)


def _with_interval(value: float, children: int, held: int) -> RankCorrelation:
    edge = math.atanh(max(-0.999999, min(0.999999, value)))
    half = 1.96 * math.sqrt((1 + value * value / 2) / (children - held - 3))
    return RankCorrelation(value, math.tanh(edge - half), math.tanh(edge + half), children)


def _coefficient(ones: Sequence[float], twos: Sequence[float]) -> float | None:
    return _pearson(_ranks(ones), _ranks(twos)) if ones else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def _pearson(ones: Sequence[float], twos: Sequence[float]) -> float | None:
    one, two = sum(ones) / len(ones), sum(twos) / len(twos)
    spreads = [sum((value - mean) ** 2 for value in values) for values, mean in ((ones, one), (twos, two))]
    if not all(spreads):
        return None
    shared = sum((left - one) * (right - two) for left, right in zip(ones, twos, strict=True))
    return float(shared / (spreads[0] * spreads[1]) ** 0.5)
