"""The bootstrap over images: by hand, against scipy, and what must hold of any values."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from expflow.report.bootstrap import bootstrap_mean


def test_bootstrap_of_hits_agrees_with_the_binomial_quantiles():
    """A resample's number of hits is binomial: the interval's ends are that distribution's quantiles."""
    n, hits = 397, 380
    result = bootstrap_mean([True] * hits + [False] * (n - hits))
    low, high = scipy.stats.binom.ppf([0.025, 0.975], n, hits / n) / n
    assert (result.mean, result.n) == (pytest.approx(hits / n), n)
    assert result.low == pytest.approx(low, abs=1 / n)
    assert result.high == pytest.approx(high, abs=1 / n)


def test_bootstrap_of_losses_agrees_with_scipys():
    values = np.random.default_rng(3).exponential(size=200)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    result = bootstrap_mean(values)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert result.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert result.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)


@given(st.lists(st.integers(0, 4).map(lambda k: k / 4), min_size=2, max_size=50), st.randoms())
def test_bootstrap_holds_of_any_shares(values, random):
    result = bootstrap_mean(values, 999)
    assert min(values) <= result.low <= result.mean + 1e-12
    assert result.mean - 1e-12 <= result.high <= max(values)
    mixed = list(values)
    random.shuffle(mixed)
    again = bootstrap_mean(mixed, 999)
    assert (again.low, again.high) == (result.low, result.high)  # the same draws, whatever the order of images
    assert again.mean == pytest.approx(result.mean)


def test_bootstrap_shrinks_with_the_root_of_the_number_of_images():
    narrow, wide = ([True, True, True, False] * n for n in (400, 25))
    ratio = (bootstrap_mean(wide).high - bootstrap_mean(wide).low) / (
        bootstrap_mean(narrow).high - bootstrap_mean(narrow).low
    )
    assert ratio == pytest.approx(4, rel=0.15)


def test_one_image_says_nothing_of_others_and_none_is_an_error():
    assert bootstrap_mean([0.5]).low is None
    for bad in ([], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="finite"):
            bootstrap_mean(bad)
