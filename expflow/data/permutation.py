"""Shuffling that is a pure function of seeds, the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Positions of samples, (n,)."""


def permutation(n: int, *seeds: int) -> Ids:
    """The numbers 0 to n - 1, shuffled.

    Numpy promises that the raw output of its bit generators never changes, but not that ``Generator.permutation`` does
    not; so a permutation here is the stable sort of Philox's raw output.

    Args:
        n: How many numbers.
        *seeds: Non-negative integers, each of which matters.
    """
    bits = np.random.Philox(np.random.SeedSequence(seeds)).random_raw(n)
    return np.argsort(np.asarray(bits, dtype=np.uint64), kind="stable").astype(np.int64, copy=False)
