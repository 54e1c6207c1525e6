"""Splitting samples into parts in which the classes keep their proportions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expflow.data.permutation import Ids, permutation


def stratified_split(labels: Sequence[int], fractions: Sequence[float], seed: int) -> list[Ids]:
    """Draw one part for each fraction, and last the rest, each with the classes in proportion.

    A part has ``round(fraction * n)`` samples, shared among classes by largest remainder; every class keeps at least
    one sample for the rest. A pure function of its arguments.

    Args:
        labels: The class of each of the n samples, from 0.
        fractions: The share of the samples in each part.
        seed: Decides which samples are drawn, and their order.

    Returns:
        The positions of each part's samples, shuffled; one part more than there are fractions.
    """
    classes = np.asarray(labels, dtype=np.int64)
    numbers = range(int(classes.max()) + 1 if len(classes) else 0)
    pools = [
        np.flatnonzero(classes == number)[permutation(int((classes == number).sum()), seed, 0, number)]
        for number in numbers
    ]
    parts = []
    counts = np.asarray([len(pool) for pool in pools], dtype=np.int64)
    for fraction in fractions:
        taken = _quotas(counts, fraction, np.asarray([len(pool) for pool in pools]) - 1)
        parts.append([pool[:quota] for pool, quota in zip(pools, taken, strict=True)])
        pools = [pool[quota:] for pool, quota in zip(pools, taken, strict=True)]
    return [_shuffled(part, seed, 1 + number) for number, part in enumerate([*parts, pools])]


def _quotas(counts: Ids, fraction: float, most: Ids) -> Ids:
    """Samples to take from each class of ``counts`` so that they sum to the rounded total, at most ``most`` of each."""
    exact = counts * fraction
    quotas = np.floor(exact).astype(np.int64)
    spare = round(float(counts.sum()) * fraction) - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[: max(spare, 0)]] += 1
    allowed: Ids = np.minimum(quotas, np.maximum(most, 0))
    return allowed


def _shuffled(part: list[Ids], seed: int, number: int) -> Ids:
    ids: Ids = np.concatenate([np.zeros(0, dtype=np.int64), *part])
    shuffled: Ids = ids[permutation(len(ids), seed, number, 0)]
    return shuffled
