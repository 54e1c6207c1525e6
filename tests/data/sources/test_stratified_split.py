import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expflow.data.sources.stratified_split import stratified_split


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=120), st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 100))
def test_split_is_a_partition_that_leaves_each_class_for_training(labels, val, test, seed):
    parts = stratified_split(labels, [val, test], seed)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    assert {labels[i] for i in parts[-1]} == set(labels)
    again = stratified_split(labels, [val, test], seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_split_keeps_proportions():
    labels = [0] * 50 + [1] * 30 + [2] * 20
    val, train = stratified_split(labels, [0.1], 0)
    assert np.bincount([labels[i] for i in val]).tolist() == [5, 3, 2]
    assert len(train) == 90
    assert not np.array_equal(val, stratified_split(labels, [0.1], 1)[0])


@pytest.mark.parametrize("fraction", [0.221, 0.0557])
def test_parts_have_the_rounded_size(fraction):
    labels = [i % 7 for i in range(1797)]
    assert len(stratified_split(labels, [fraction], 3)[0]) == round(1797 * fraction)
