"""Campaigns: levels, verdicts of tries, and their record (docs/agents.md)."""

import math

import numpy as np
import pytest
from scipy import stats

from expflow.errors import LedgerDamaged
from expflow.report.campaign import CampaignRecord, CampaignTry, judge_try, try_level
from expflow.report.image_differences import image_test


def wanted(**changes):
    base = {
        "number": 0, "at": 0.0, "name": "mine", "file": "mine.yaml", "config": "c1", "reference": "base",
        "reference_config": "c0", "seeds": (5, 6, 7), "metric": "val/top1", "level": 0.0, "hypothesis": "wider",
    }  # fmt: skip
    return CampaignTry(**{**base, **changes})


def test_levels_add_up_to_five_percent():
    assert try_level(1) == pytest.approx(0.05 * 6 / math.pi**2)
    assert sum(try_level(number) for number in range(1, 100_000)) == pytest.approx(0.05, abs=1e-5)


def test_a_try_by_hand():
    # differences 1, 2, 3: t = 3.4641 with 2 degrees of freedom, one-sided p = 0.0371; the first level is 0.0304
    result = judge_try([1.0, 2.0, 3.0], 1)
    assert (result.verdict, result.n, result.difference) == ("not_resolved", 3, 2.0)
    assert result.p == pytest.approx(0.03709, abs=1e-5)
    half = stats.t.ppf(1 - try_level(1), 2) / math.sqrt(3)
    assert (result.low, result.high) == pytest.approx((2 - half, 2 + half))
    assert result.seeds_needed.middle > 3
    better = judge_try([1.0, 1.1, 1.2], 1)
    assert (better.verdict, better.seeds_needed) == ("better", None)
    assert judge_try([1.0, 1.1, 1.2], 50).verdict == "not_resolved"


def test_not_better_needs_a_margin():
    differences = [0.0, 0.001, -0.001, 0.0005]
    assert judge_try(differences, 1).verdict == "not_resolved"
    assert judge_try(differences, 1, margin=0.01).verdict == "not_better"
    assert judge_try(differences, 1, margin=0.0005).verdict == "not_resolved"
    assert judge_try([-1.0, -1.1, -0.9], 1, margin=0.1).verdict == "not_better"


def test_without_spread_nothing_is_resolved():
    assert judge_try([0.1, 0.1], 1).verdict == "not_resolved"
    assert judge_try([0.1], 1, on_images=False).holds_for == "no_images"


def test_for_other_images_it_must_be_better_there():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 0.001, (4, 1))
    few = np.zeros((1, 400))
    few[0, :2] = 1.0  # two images of four hundred make the difference, with every seed
    one = judge_try((few + seeds).mean(axis=1).tolist(), 1, over=image_test(few + seeds, 0.0))
    assert (one.verdict, one.holds_for) == ("better", "these_images")
    most = rng.normal(0.3, 0.4, (1, 400)) + seeds
    other = judge_try(most.mean(axis=1).tolist(), 1, over=image_test(most, 0.0))
    assert (other.verdict, other.holds_for) == ("better", "other_images")


def test_a_hundred_equal_tries_seldom_keep_a_false_one():
    """Smaller than in benchmarks/false_calls.py: 1,500 campaigns, seeded, all against the reference's same seeds."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((1500, 3))
    kept = before = np.zeros(1500, bool)
    for number in range(1, 101):
        differences = rng.standard_normal((1500, 3)) - reference
        t = differences.mean(axis=1) / differences.std(axis=1, ddof=1) * math.sqrt(3)
        p = stats.t.sf(t, 2)
        kept, before = kept | (p <= try_level(number)), before | (p <= 0.025)
    assert kept.mean() <= 0.06
    assert before.mean() > 0.4


def test_tries_are_numbered_in_their_order_and_concluded(tmp_path):
    record = CampaignRecord(tmp_path, "depth")
    assert record.tries() == []
    first, second = record.declare(wanted()), record.declare(wanted(config="c2", margin=0.01))
    assert [first.number, second.number] == [1, 2]
    assert second.level == try_level(2)
    record.conclude(2, judge_try([0.0, 0.001, -0.001], 2, margin=0.01))
    kept = CampaignRecord(tmp_path, "depth").tries()
    assert [attempt.number for attempt in kept] == [1, 2]
    assert kept[0].result is None
    assert kept[1].result.verdict == "not_better"
    assert (kept[1].seeds, kept[1].hypothesis) == ((5, 6, 7), "wider")


def test_the_same_try_again_is_the_same_and_more_seeds_are_another(tmp_path):
    record = CampaignRecord(tmp_path, "depth")
    record.declare(wanted())
    assert record.declare(wanted(name="elsewhere")).number == 1
    assert record.declare(wanted(seeds=(5, 6, 7, 8))).number == 2
    assert record.declare(wanted(reference_config="c9")).number == 3
    assert len(record.tries()) == 3


def test_a_line_that_was_cut_off_is_written_over_and_other_damage_is_named(tmp_path):
    record = CampaignRecord(tmp_path, "depth")
    record.declare(wanted())
    with record.path.open("ab") as file:
        file.write(b'{"number": 1, "resu')
    assert len(record.tries()) == 1
    record.declare(wanted(config="c2"))
    assert [attempt.config for attempt in record.tries()] == ["c1", "c2"]
    record.path.write_bytes(b"nonsense\n" + record.path.read_bytes())
    with pytest.raises(LedgerDamaged, match=r"depth\.jsonl:1"):
        record.tries()
