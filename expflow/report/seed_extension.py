"""How more seeds of a sweep are asked for."""

from __future__ import annotations

from collections.abc import Sequence


def extended_seeds(seeds: Sequence[int], count: int) -> str:
    """That many seeds, those that there are among them, as ``sweep.seeds`` takes them: a count, or a list.

    Args:
        seeds: The seeds that there are.
        count: How many are wanted.
    """
    if tuple(seeds) == tuple(range(len(seeds))):
        return str(count)
    more = range(max(seeds) + 1, max(seeds) + 1 + count - len(seeds))
    return "[" + ",".join(map(str, (*seeds, *more))) + "]"


def confirming_count(seeds: Sequence[int], seen: int) -> int:
    """How many seeds make an exploratory contrast confirmatory: as many new ones as there are, and at least two.

    Args:
        seeds: The seeds that there are.
        seen: How many of them had ended when the contrast was declared.
    """
    return max(2 * len(seeds), seen + 2)
