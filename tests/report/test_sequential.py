"""How the level is spent over analyses (docs/inference.md, "Analyses")."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from expflow.report.sequential import (
    effect_interval,
    level_share,
    resolvable_effect,
    seeds_for,
    sequential_p,
    step_down_divisors,
)
from expflow.report.statistics import holm, interval_at, paired_test, power


def test_shares_of_the_level_add_up_to_all_of_it():
    shares = [level_share(number) for number in range(1, 60)]
    assert shares[:4] == [0.8, 0.1, 0.05, 0.025]
    assert sum(shares) == pytest.approx(1.0)
    assert all(sum(shares[:count]) < 1 + 1e-12 for count in range(60))


def test_the_p_value_over_analyses_by_hand():
    assert sequential_p([0.04]) == pytest.approx(0.05)
    assert sequential_p([0.04, 0.004]) == pytest.approx(0.04)
    assert sequential_p([0.03, 0.9]) == pytest.approx(0.0375)  # an early call stays
    assert sequential_p([None, 0.004]) == pytest.approx(0.04)  # one that could not be tested has had its share
    assert sequential_p([0.9, 0.9]) == 1.0
    assert sequential_p([None]) is None
    assert sequential_p([]) is None


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=8))
def test_divisors_are_those_of_holm(p_values):
    level = 0.05
    divisors = step_down_divisors(p_values, level)
    assert all(1 <= divisor <= len(p_values) for divisor in divisors)
    for p, adjusted, divisor in zip(p_values, holm(p_values), divisors, strict=True):
        if p is not None and not math.isclose(p * divisor, level):
            assert (p * divisor <= level) == (adjusted <= level)


def test_divisors_by_hand():
    # 0.001 against 0.05 / 3, 0.02 against 0.05 / 2, and 0.5 against 0.05
    assert step_down_divisors([0.02, 0.001, 0.5]) == [2, 3, 1]
    assert step_down_divisors([0.04, None]) == [2, 2]


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=8), st.sampled_from([0.05, 0.04, 0.005]))
def test_the_interval_at_the_tested_level_leaves_out_zero_where_it_is_called(differences, level):
    test = paired_test(differences, [0.0] * len(differences))
    if test.p is None or math.isclose(test.p, level, rel_tol=1e-6):
        return
    low, high = interval_at(level, differences)
    assert (test.p <= level) == (low > 0 or high < 0)


@pytest.mark.parametrize(("n", "one", "three"), [(3, 3.65, 6.3), (5, 1.79, 2.4), (10, 1.04, 1.3)])
def test_the_smallest_difference_that_seeds_resolve(n, one, three):
    assert resolvable_effect(n, 0.05 * level_share(1)) == pytest.approx(one, abs=0.01)
    assert resolvable_effect(n, 0.05 * level_share(1) / 3) == pytest.approx(three, abs=0.06)
    assert power(resolvable_effect(n, 0.04), n, 0.04) == pytest.approx(0.8, abs=1e-4)
    assert resolvable_effect(1, 0.04) is None


@pytest.mark.parametrize(("effect", "n"), [(2.0, 3), (0.7, 8), (-0.7, 8)])
def test_the_interval_of_an_effect_is_the_pivot_of_the_noncentral_t(effect, n):
    low, high = effect_interval(effect, n, confidence=0.5)
    t = effect * math.sqrt(n)
    assert stats.nct.cdf(t, n - 1, low * math.sqrt(n)) == pytest.approx(0.75, abs=0.002)
    assert stats.nct.cdf(t, n - 1, high * math.sqrt(n)) == pytest.approx(0.25, abs=0.002)


def test_seeds_needed_are_a_range_around_what_was_observed():
    needed = seeds_for(1.2, 3, 0.005)
    assert 3 < needed.low < needed.middle
    assert needed.high is None or needed.high > needed.middle
    assert power(1.2, needed.middle, 0.005) >= 0.8 > power(1.2, needed.middle - 1, 0.005)
    weak = seeds_for(0.05, 5, 0.005)  # none at all is likely, too
    assert weak.high is None
    assert seeds_for(-1.2, 3, 0.005) == needed
    assert seeds_for(-0.5, 5, 0.005, one_sided=True).middle is None


def test_asking_after_every_further_seed_misleads_in_no_more_than_five_percent():
    differences = np.random.default_rng(0).standard_normal((4000, 20))
    called = before = np.zeros(4000, bool)
    for k, n in enumerate(range(3, 21), start=1):
        t = differences[:, :n].mean(axis=1) / differences[:, :n].std(axis=1, ddof=1) * math.sqrt(n)
        p = 2 * stats.t.sf(np.abs(t), n - 1)
        called, before = called | (p <= 0.05 * level_share(k)), before | (p < 0.05)
    assert called.mean() <= 0.055
    assert before.mean() > 0.15  # what the test at 5 % does when it is asked again
