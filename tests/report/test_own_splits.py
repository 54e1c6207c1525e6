"""``data.split_seed: trial``: each trial has val images of its own, and the variance is that of Nadeau and Bengio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from expflow.intervals import estimate, share_estimate
from expflow.ledger.header import Header
from expflow.report import answers
from expflow.report.formatting import coverage
from expflow.report.sequential import resolvable_effect, seeds_for
from expflow.report.statistics import interval_at, paired_test
from expflow.sweep.plan import make_plan
from expflow.sweep.trial_expansion import planned_trials
from tests.report.states import header
from tests.report.test_analyses import CONTRAST, FAR, Ledger

OF, AGAINST = [0.90, 0.93, 0.91, 0.94], [0.88, 0.90, 0.90, 0.90]
OVERLAP = 0.25


def test_the_corrected_test_by_hand():
    differences = [0.02, 0.03, 0.01, 0.04]
    mean, spread = 0.025, math.sqrt(sum((value - 0.025) ** 2 for value in differences) / 3)
    error = spread * math.sqrt(1 / 4 + OVERLAP)
    test = paired_test(OF, AGAINST, overlap=OVERLAP)
    assert test.p == pytest.approx(2 * stats.t.sf(mean / error, 3))
    assert (test.difference.low, test.difference.high) == pytest.approx(stats.t.interval(0.95, 3, mean, error))
    assert interval_at(0.05, differences, OVERLAP) == pytest.approx(stats.t.interval(0.95, 3, mean, error))
    assert test.p > paired_test(OF, AGAINST).p


def test_other_splits_of_the_same_images_seldom_make_a_difference():
    """Smaller than in benchmarks/false_calls.py: 1,000 users, seeded, whose networks do not depend on the split."""
    rng, called = np.random.default_rng(0), {OVERLAP: 0, 0.0: 0}
    for _ in range(1000):
        images = rng.standard_normal(100)  # how much better the one side is on each; no better on others
        differences = [float(rng.permutation(images)[:20].mean()) for _ in range(10)]
        for overlap in called:
            called[overlap] += paired_test(differences, [0.0] * 10, overlap=overlap).p <= 0.05
    assert called[OVERLAP] <= 60
    assert called[0.0] > 200


def test_intervals_are_wider_by_the_same_factor():
    plain, own = estimate(OF), estimate(OF, OVERLAP)
    assert (own.high - own.mean) / (plain.high - plain.mean) == pytest.approx(math.sqrt(1 + 4 * OVERLAP))
    assert share_estimate(OF, 100, OVERLAP).low < share_estimate(OF, 100).low


def test_more_seeds_tell_less_and_less():
    assert resolvable_effect(10, 0.05, OVERLAP) > math.sqrt(OVERLAP)  # below that no number of seeds would do
    assert resolvable_effect(10, 0.05) < resolvable_effect(10, 0.05, OVERLAP)
    assert seeds_for(0.4, 5, 0.05).middle is not None
    assert seeds_for(0.4, 5, 0.05, overlap=OVERLAP).middle is None


def of_trials(**changes) -> Header:
    base = header()
    data = {**base.recipe["data"], "split_seed": "trial"}
    return header(recipe={**base.recipe, "data": data}, **changes)


def test_the_header_says_how_much_the_trainings_share():
    assert header().overlap == 0.0
    assert of_trials().overlap == pytest.approx(397 / 1400)
    assert "each seed has of its own" in coverage("val/top1", of_trials())


@pytest.mark.parametrize(("metric", "holds_for"), [("val/top1", "other_images"), ("fit/top1", "these_images")])
def test_what_is_resolved_holds_for_other_images(metric, holds_for):
    contrast = {**CONTRAST, "metric": metric}
    verdicts = {}
    for name, recipe in (("shared", header().recipe), ("own", of_trials().recipe)):
        ledger = Ledger(metric)
        ledger.start((0, 1, 2), (contrast,), recipe=recipe)
        ledger.pairs(FAR)
        (verdicts[name],) = answers(ledger.state)
    assert verdicts["shared"].holds_for == "these_images"
    assert (verdicts["own"].verdict, verdicts["own"].holds_for) == ("as_expected", holds_for)
    assert verdicts["own"].p > verdicts["shared"].p


def test_each_seed_has_a_val_of_its_own_and_all_the_same_test(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "exp.yaml").write_text(
        "data: {name: digits, split_seed: trial}\nmodel: linear\ntask: classification\nloss: cross_entropy\n"
        "optimizer: {name: sgd, lr: 0.1}\nsweep: {seeds: 2, space: {optimizer.lr: [0.1, 0.2]}}\n"
    )
    first, second, other, _ = planned_trials(make_plan(tmp_path / "exp.yaml", storage=tmp_path / "runs"))
    assert first.config == second.config
    assert first.data.key != second.data.key
    assert other.data.key == first.data.key  # configs are compared on the same images
    shards = [trial.data.manifest.splits for trial in (first, second)]
    assert shards[0]["test"] == shards[1]["test"]
    assert shards[0]["val"] != shards[1]["val"]
    assert first.data.spec.samples == second.data.spec.samples
