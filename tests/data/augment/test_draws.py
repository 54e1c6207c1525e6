"""Draws: the same for one sample and for many, and as even as they claim."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expflow.data.augment import draws


@given(st.integers(0, 2**63 - 1), st.integers(0, 10_000), st.lists(st.integers(0, 2**40), min_size=1, max_size=5))
def test_one_sample_draws_what_a_batch_draws_for_it(seed, epoch, ids):
    keys = draws.keys_of(seed, epoch, np.asarray(ids, dtype=np.int64))
    assert keys.tolist() == [draws.key_of(seed, epoch, each) for each in ids]
    for number in (draws.FLIP, draws.MIX + 7):
        assert draws.uniforms(keys, number).tolist() == [draws.uniform(int(key), number) for key in keys.tolist()]
        assert draws.wholes(keys, number, 9).tolist() == [draws.whole(int(key), number, 9) for key in keys.tolist()]


@pytest.mark.parametrize("axis", ["ids", "epochs", "seeds", "numbers"])
def test_neighbours_have_nothing_to_do_with_each_other(axis):
    n = 20_000
    ids = np.arange(n)
    if axis == "ids":
        found = draws.uniforms(draws.keys_of(0, 0, ids), draws.FLIP)
    elif axis == "epochs":
        found = np.asarray([draws.uniform(draws.key_of(0, each, 5), draws.FLIP) for each in range(n)])
    elif axis == "seeds":
        found = np.asarray([draws.uniform(draws.key_of(each, 0, 5), draws.FLIP) for each in range(n)])
    else:
        found = np.asarray([draws.uniform(12345, each) for each in range(n)])
    counts, _ = np.histogram(found, bins=50, range=(0, 1))
    assert ((counts - n / 50) ** 2 / (n / 50)).sum() < 100  # chi-square with 49 degrees: 1 in 30,000
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.03


def test_a_draw_is_known():
    """Written down, so that a change of it, which would change what old seeds mean, is a decision."""
    assert draws.key_of(1, 2, 3) == 0x8568F7C4E53B5A35
    assert draws.uniform(draws.key_of(1, 2, 3), draws.FLIP) == 0.020291865474875936
