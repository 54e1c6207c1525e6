"""Bootstrap over images and McNemar's test: by hand, against scipy, and what must hold of any predictions."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from expflow.report.resampling import bootstrap, mcnemar, mean_hits

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
    found = mcnemar(*discordant(one, other))
    assert (found.n, found.only_first, found.only_second) == (one + other + 20, one, other)
    assert found.p == pytest.approx(p, rel=1e-12)


@given(HITS)
def test_mcnemar_is_the_binomial_test_of_the_images_they_disagree_on(pairs):
    first, second = zip(*pairs, strict=True)
    found, turned = mcnemar(first, second), mcnemar(second, first)
    assert (found.only_first, found.only_second, found.p) == (turned.only_second, turned.only_first, turned.p)
    assert 0 < found.p <= 1
    if disagree := found.only_first + found.only_second:
        assert found.p == pytest.approx(scipy.stats.binomtest(found.only_first, disagree).pvalue)


@given(HITS, st.integers(0, 20))
def test_images_on_which_both_agree_change_nothing(pairs, more):
    first, second = (list(each) for each in zip(*pairs, strict=True))
    again = mcnemar([*first, *[True] * more], [*second, *[True] * more])
    assert again.p == mcnemar(first, second).p


def test_mcnemar_needs_the_same_images():
    with pytest.raises(ValueError, match="same images"):
        mcnemar([True], [True, False])


def test_bootstrap_of_hits_agrees_with_the_binomial_quantiles():
    """A resample's number of hits is binomial: the interval's ends are that distribution's quantiles."""
    n, hits = 397, 380
    found = bootstrap([True] * hits + [False] * (n - hits))
    low, high = scipy.stats.binom.ppf([0.025, 0.975], n, hits / n) / n
    assert (found.mean, found.n) == (pytest.approx(hits / n), n)
    assert found.low == pytest.approx(low, abs=1 / n)
    assert found.high == pytest.approx(high, abs=1 / n)


def test_bootstrap_of_losses_agrees_with_scipys():
    values = np.random.default_rng(3).exponential(size=200)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    found = bootstrap(values)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)


@given(st.lists(st.integers(0, 4).map(lambda k: k / 4), min_size=2, max_size=50), st.randoms())
def test_bootstrap_holds_of_any_shares(values, random):
    found = bootstrap(values, 999)
    assert min(values) <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= max(values)
    mixed = list(values)
    random.shuffle(mixed)
    again = bootstrap(mixed, 999)
    assert (again.low, again.high) == (found.low, found.high)  # the same draws, whatever the order of images
    assert again.mean == pytest.approx(found.mean)


def test_bootstrap_shrinks_with_the_root_of_the_number_of_images():
    narrow, wide = ([True, True, True, False] * n for n in (400, 25))
    ratio = (bootstrap(wide).high - bootstrap(wide).low) / (bootstrap(narrow).high - bootstrap(narrow).low)
    assert ratio == pytest.approx(4, rel=0.15)


def test_one_image_says_nothing_of_others_and_none_is_an_error():
    assert bootstrap([0.5]).low is None
    for bad in ([], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="finite"):
            bootstrap(bad)


def test_networks_are_averaged_image_by_image():
    both = mean_hits([np.asarray([True, False, True]), np.asarray([True, True, False])])
    assert both.tolist() == [1.0, 0.5, 0.5]
