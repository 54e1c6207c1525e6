"""McNemar's test: by hand, against scipy, and what must hold of any two classifiers."""

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from expflow.report.mcnemar import mcnemar_test

HITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def discordant(one, other, agreeing=20):
    first = [True] * one + [False] * other + [True] * agreeing
    second = [False] * one + [True] * other + [True] * agreeing
    return first, second


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [
        (0, 5, 2 / 32),  # 2 * (1/2)^5
        (1, 8, 2 * (1 + 9) / 512),  # 2 * (C(9,0) + C(9,1)) / 2^9
        (2, 10, 2 * (1 + 12 + 66) / 4096),
        (4, 4, 1.0),  # the doubled tail is above 1
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(one, other, p):
    result = mcnemar_test(*discordant(one, other))
    assert (result.n, result.only_first, result.only_second) == (one + other + 20, one, other)
    assert result.p == pytest.approx(p, rel=1e-12)


@given(HITS)
def test_mcnemar_is_the_binomial_test_of_the_images_they_disagree_on(pairs):
    first, second = zip(*pairs, strict=True)
    result, turned = mcnemar_test(first, second), mcnemar_test(second, first)
    assert (result.only_first, result.only_second, result.p) == (turned.only_second, turned.only_first, turned.p)
    assert 0 < result.p <= 1
    if disagree := result.only_first + result.only_second:
        assert result.p == pytest.approx(scipy.stats.binomtest(result.only_first, disagree).pvalue)


@given(HITS, st.integers(0, 20))
def test_images_on_which_both_agree_change_nothing(pairs, more):
    first, second = (list(hits) for hits in zip(*pairs, strict=True))
    again = mcnemar_test([*first, *[True] * more], [*second, *[True] * more])
    assert again.p == mcnemar_test(first, second).p


def test_mcnemar_needs_the_same_images():
    with pytest.raises(ValueError, match="same images"):
        mcnemar_test([True], [True, False])
