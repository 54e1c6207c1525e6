"""The legal values on either side of an illegal one, for messages."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(value: float, legal: Iterable[int]) -> str:
    """``"20 and 26"``: the largest of ``legal`` below ``value`` and the smallest above; one alone at an end."""
    known = sorted(set(legal))
    below = [each for each in known if each < value][-1:]
    above = [each for each in known if each > value][:1]
    return " and ".join(map(str, below + above))


def divisors(number: int) -> list[int]:
    """The whole numbers that divide ``number`` >= 1, in order."""
    return [each for each in range(1, number + 1) if number % each == 0]
