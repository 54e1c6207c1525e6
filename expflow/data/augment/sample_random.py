"""Random numbers of a sample: a function of (seed, epoch, id) and of what the number is for, and of nothing else.

The generator is counter-based and needs no state, so threads, workers and resuming have no part in it, and what one
operation draws changes nothing for another. One sample at a time takes plain integers, whole batches take arrays; both
give the same numbers.

Source: the finaliser of splitmix64; Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

FLIP, PAD, CROP_OR_NOT, ERASE_OR_NOT, CROP, RAND_AUGMENT, JITTER, ERASE, MIX = (100 * purpose for purpose in range(9))
"""What numbers are for: each purpose has a hundred of its own."""


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _base(seed: int, epoch: int) -> int:
    return _mix((_mix((seed + _GOLDEN) & _MASK) + (epoch + 1) * _GOLDEN) & _MASK)


def sample_key(seed: int, epoch: int, sample: int) -> int:
    """What all numbers of one sample in one epoch derive from.

    Args:
        seed: The recipe's seed.
        epoch: The epoch's number, from 0.
        sample: The sample's id, its position in the split.
    """
    return _mix((_base(seed, epoch) + (sample + 1) * _GOLDEN) & _MASK)


def uniform(key: int, number: int) -> float:
    """One of the sample's numbers, evenly distributed in [0, 1).

    Args:
        key: The sample's key.
        number: Which number; each purpose has its own, such as ``FLIP``.
    """
    return (_mix((key + (number + 1) * _GOLDEN) & _MASK) >> 11) * 2.0**-53


def uniform_between(key: int, number: int, low: float, high: float) -> float:
    """One of the sample's numbers, evenly distributed in [low, high).

    Args:
        key: The sample's key.
        number: Which number.
        low: The smallest.
        high: The limit, which is not reached.
    """
    return low + (high - low) * uniform(key, number)


def integer(key: int, number: int, count: int) -> int:
    """One of the sample's numbers, as an integer.

    Args:
        key: The sample's key.
        number: Which number.
        count: The result is one of 0 to ``count`` - 1.
    """
    return min(int(uniform(key, number) * count), count - 1)


def _mix_all(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_FIRST)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_SECOND)
    return values ^ (values >> np.uint64(31))


def sample_keys(seed: int, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.uint64]:
    """:func:`sample_key` of many samples.

    Args:
        seed: The recipe's seed.
        epoch: The epoch's number, from 0.
        samples: The samples' ids, (n,).

    Returns:
        Their keys, (n,).
    """
    steps = (samples.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
    return _mix_all(np.uint64(_base(seed, epoch)) + steps)


def uniforms(keys: NDArray[np.uint64], number: int) -> Floats:
    """:func:`uniform` of many samples.

    Args:
        keys: The samples' keys, (n,).
        number: Which number of each.
    """
    mixed = _mix_all(keys + np.uint64(((number + 1) * _GOLDEN) & _MASK))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(keys: NDArray[np.uint64], number: int, count: int) -> NDArray[np.int64]:
    """:func:`integer` of many samples.

    Args:
        keys: The samples' keys, (n,).
        number: Which number of each.
        count: The results are of 0 to ``count`` - 1.
    """
    return np.minimum((uniforms(keys, number) * count).astype(np.int64), count - 1)
