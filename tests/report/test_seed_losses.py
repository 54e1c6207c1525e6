"""Seeds that failed, diverged or lie far out (docs/inference.md, "Seeds that were lost")."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from expflow.report import answers
from expflow.report.seed_losses import far_out_places, fisher_test
from tests.report.states import sweep, trial

CONTRAST = {"metric": "val/top1", "of": {"a": 2}, "against": {"a": 1}, "where": {}, "expect": "higher", "margin": None}


def state(one, two, **losses):
    """Values of ``a`` 1 and 2 for each seed; None: the seed diverged."""
    trials = [
        trial({"a": a}, seed, "done", {"val/top1": value})
        if value is not None
        else trial({"a": a}, seed, "failed", failure=("diverged", "the loss became nan"))
        for a, side in ((1, one), (2, two))
        for seed, value in enumerate(side)
    ]
    return sweep(trials, report={"contrasts": [CONTRAST]}, seeds=tuple(range(len(one))), **losses)


@given(st.integers(0, 6), st.integers(0, 6))
def test_fishers_test_is_scipys(lost, other_lost):
    expected = stats.fisher_exact([[lost, 6 - lost], [other_lost, 6 - other_lost]]).pvalue
    assert fisher_test(lost, 6, other_lost, 6) == pytest.approx(expected, abs=1e-9)


def test_a_side_that_lost_seeds_is_resolved_where_it_trained():
    (whole,) = answers(state([0.5, 0.51, 0.52, 0.53], [0.9, 0.912, 0.92, 0.935]))
    assert (whole.verdict, whole.resolution, whole.p_losses) == ("as_expected", "resolved", None)
    (answer,) = answers(state([0.5, 0.51, 0.52, 0.53], [0.9, 0.912, 0.92, None]))
    assert (answer.verdict, answer.resolution) == ("as_expected", "resolved_where_trained")
    assert "where training went well" in answer.sentence
    assert answer.p_losses == 1.0
    notes = " ".join(answer.notes)
    assert "1 of 4 trials of the one side and 0 of 4 of the other" in notes
    assert "3 of 3 seeds agree in sign" in notes
    assert "seed 3 left out: a=2 diverged" in notes


def test_a_seed_far_out_stays_in_the_mean_and_is_named():
    (answer,) = answers(state([0.1] * 5, [0.981, 0.982, 0.983, 0.984, 0.3]))
    assert answer.n == 5
    assert answer.of.mean == pytest.approx(np.mean([0.981, 0.982, 0.983, 0.984, 0.3]))
    assert answer.of_seeds.far_out == (4,)
    assert answer.resolution in ("resolved_where_trained", "not_resolved")
    assert any("seed 4 lies far from the others" in note for note in answer.notes)


def test_few_seeds_and_single_images_are_not_far_out():
    assert far_out_places([0.98, 0.98, 0.1]) == []
    assert far_out_places([0.98] * 5 + [0.9775], resolution=1 / 397) == []
    assert far_out_places([0.98] * 5 + [0.5], resolution=1 / 397) == [5]
    assert far_out_places([0.98] * 6) == []


@pytest.mark.parametrize(("metric", "far_out"), [("val/top1", ()), ("val/miou", (5,)), ("val/loss", (5,))])
def test_one_image_is_no_step_of_metrics_that_are_no_share_of_images(metric, far_out):
    """A seed that differs from five equal ones by 0.0025, which is one image of 397."""
    sides = {1: [0.1] * 6, 2: [0.98] * 5 + [0.9775]}
    trials = [trial({"a": a}, seed, "done", {metric: v}) for a, side in sides.items() for seed, v in enumerate(side)]
    report = {"contrasts": [{**CONTRAST, "metric": metric}]}
    (answer,) = answers(sweep(trials, report=report, seeds=tuple(range(6))))
    assert answer.of_seeds.far_out == far_out


def test_normal_seeds_are_seldom_called_far_out():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3000, 6))
    assert sum(bool(far_out_places(row.tolist())) for row in rows) / 3000 <= 0.013
