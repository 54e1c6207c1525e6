"""Draws: the same for one sample and for many, and as even as they claim."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expflow.data.augment import sample_random


@given(st.integers(0, 2**63 - 1), st.integers(0, 10_000), st.lists(st.integers(0, 2**40), min_size=1, max_size=5))
def test_one_sample_draws_what_a_batch_draws_for_it(seed, epoch, ids):
    keys = sample_random.sample_keys(seed, epoch, np.asarray(ids, dtype=np.int64))
    assert keys.tolist() == [sample_random.sample_key(seed, epoch, id) for id in ids]
    for number in (sample_random.FLIP, sample_random.MIX + 7):
        assert sample_random.uniforms(keys, number).tolist() == [
            sample_random.uniform(int(key), number) for key in keys.tolist()
        ]
        assert sample_random.integers(keys, number, 9).tolist() == [
            sample_random.integer(int(key), number, 9) for key in keys.tolist()
        ]


@pytest.mark.parametrize("axis", ["ids", "epochs", "seeds", "numbers"])
def test_neighbours_have_nothing_to_do_with_each_other(axis):
    n = 20_000
    ids = np.arange(n)
    if axis == "ids":
        numbers = sample_random.uniforms(sample_random.sample_keys(0, 0, ids), sample_random.FLIP)
    elif axis == "epochs":
        numbers = np.asarray(
            [sample_random.uniform(sample_random.sample_key(0, epoch, 5), sample_random.FLIP) for epoch in range(n)]
        )
    elif axis == "seeds":
        numbers = np.asarray(
            [sample_random.uniform(sample_random.sample_key(seed, 0, 5), sample_random.FLIP) for seed in range(n)]
        )
    else:
        numbers = np.asarray([sample_random.uniform(12345, number) for number in range(n)])
    counts, _ = np.histogram(numbers, bins=50, range=(0, 1))
    assert ((counts - n / 50) ** 2 / (n / 50)).sum() < 100  # chi-square with 49 degrees: 1 in 30,000
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.03


def test_a_draw_is_known():
    """Written down, so that a change of it, which would change what old seeds mean, is a decision."""
    assert sample_random.sample_key(1, 2, 3) == 0x8568F7C4E53B5A35
    assert sample_random.uniform(sample_random.sample_key(1, 2, 3), sample_random.FLIP) == 0.020291865474875936
