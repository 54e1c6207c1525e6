from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from expflow.intervals import estimate
from expflow.report.statistics import MOST_SEEDS, holm, paired_test, power, seeds_needed

SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
"""Hours of sleep won by ten patients with two drugs: the worked example of Student's paper of 1908."""


def test_students_own_example():
    result = paired_test(SLEEP_2, SLEEP_1)
    assert result.difference.mean == pytest.approx(1.58)
    assert result.p == pytest.approx(0.002833, abs=1e-6)
    assert (result.difference.low, result.difference.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)


@pytest.mark.parametrize(("n", "kind"), [(1, "none"), (2, "range"), (3, "t"), (10, "t")])
def test_rule_3_chooses_the_interval(n, kind):
    result = estimate(SLEEP_2[:n])
    assert (result.n, result.kind) == (n, kind)
    assert (result.low is None) == (n == 1)


def test_two_seeds_give_their_range_and_nothing_is_refused():
    assert (estimate([3.0, 1.0]).low, estimate([3.0, 1.0]).high) == (1.0, 3.0)
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=12))
def test_the_t_interval_is_scipys(numbers):
    result = estimate(numbers)
    error = np.std(numbers, ddof=1) / math.sqrt(len(numbers))
    low, high = stats.t.interval(0.95, len(numbers) - 1, result.mean, error) if error else (result.mean, result.mean)
    assert (result.low, result.high) == pytest.approx((low, high), abs=1e-6)
    assert result.low - 1e-9 <= result.mean <= result.high + 1e-9


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=10))
def test_the_paired_test_is_scipys(pairs):
    of, against = [left for left, _ in pairs], [right for _, right in pairs]
    result = paired_test(of, against)
    if result.p is None:
        assert "same in all" in result.why
    elif np.std([left - right for left, right in pairs]) > 1e-6:
        assert result.p == pytest.approx(stats.ttest_rel(of, against).pvalue, abs=1e-6)


def test_a_margin_makes_it_one_sided():
    margin = 0.5
    result = paired_test(SLEEP_1, SLEEP_2, margin=margin)
    shifted = [left + margin for left in SLEEP_1]
    assert result.p == pytest.approx(stats.ttest_rel(shifted, SLEEP_2, alternative="greater").pvalue)
    assert result.bound < result.difference.mean


def test_identical_differences_and_single_pairs_are_not_tested():
    one = paired_test([1.0], [0.0])
    assert one.p is None
    assert "one pair" in one.why
    same = paired_test([0.9 + 1 / 397, 0.8 + 1 / 397], [0.9, 0.8])  # equal but for rounding
    assert same.p is None
    assert "same in all 2 pairs" in same.why
    assert paired_test([0.0, 0.0], [0.0, 0.0]).p is None


def test_holm_by_hand():
    # sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, then 0.04 * 1 raised to its predecessor's 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_contrast_that_could_not_be_tested_still_counts():
    assert holm([0.01, None]) == [pytest.approx(0.02), None]
    assert holm([]) == []


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=10), st.randoms())
def test_holm_is_an_adjustment(p_values, rng):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert (p is None) == (q is None)
        assert p is None or p <= q <= min(1.0, len(p_values) * p) + 1e-12
    known = sorted((p, q) for p, q in zip(p_values, adjusted, strict=True) if p is not None)
    assert [q for _, q in known] == sorted(q for _, q in known)
    order = list(range(len(p_values)))
    rng.shuffle(order)
    assert holm([p_values[at] for at in order]) == [adjusted[at] for at in order]


def test_sample_sizes_of_the_tables():
    # Cohen's medium effect with power 0.8 at the 5 % level: 34 pairs, and 27 where one-sided
    assert seeds_needed(0.5) == 34
    assert seeds_needed(0.5, one_sided=True) == 27


@pytest.mark.parametrize(("effect", "n"), [(0.5, 10), (1.0, 5), (2.0, 3)])
def test_power_is_the_noncentral_t(effect, n):
    critical = stats.t.ppf(0.975, n - 1)
    exact = stats.nct.sf(critical, n - 1, effect * math.sqrt(n)) + stats.nct.cdf(
        -critical, n - 1, effect * math.sqrt(n)
    )
    assert power(effect, n) == pytest.approx(exact, abs=1e-3)


@given(st.floats(0.15, 50), st.sampled_from([0.05, 0.05 / 3, 0.005]))
def test_the_number_of_seeds_is_the_smallest_that_suffices(effect, alpha):
    needed = seeds_needed(effect, alpha)
    assert power(effect, needed, alpha) >= 0.8
    assert needed == 2 or power(effect, needed - 1, alpha) < 0.8


@pytest.mark.parametrize("effect", [0.0, 1e-9, math.inf, math.nan])
def test_no_number_of_seeds_for_no_effect(effect):
    assert seeds_needed(effect) is None
    assert power(0.01, MOST_SEEDS) < 0.8


def test_a_one_sided_effect_on_the_wrong_side_needs_no_seeds():
    assert seeds_needed(-1.0, one_sided=True) is None
