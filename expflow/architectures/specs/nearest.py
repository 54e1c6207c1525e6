"""The legal values on either side of an illegal one, for messages."""

from __future__ import annotations

import math
from collections.abc import Iterable


def nearest_legal(value: float, legal: Iterable[int]) -> str:
    """The legal values on either side of an illegal one, as words: ``20 and 26``; one alone at an end.

    Args:
        value: The illegal value.
        legal: All legal values in reach.
    """
    known = sorted(set(legal))
    below = [candidate for candidate in known if candidate < value][-1:]
    above = [candidate for candidate in known if candidate > value][:1]
    return " and ".join(map(str, below + above))


def divisors(number: int) -> list[int]:
    """The whole numbers that divide a number, in order.

    Args:
        number: At least 1.
    """
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return sorted({*small, *(number // divisor for divisor in small)})
