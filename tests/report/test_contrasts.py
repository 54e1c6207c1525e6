from __future__ import annotations

import pytest

from expflow.report import answers
from tests.report.states import digits, sweep, trial


def contrast(**changes):
    base = {"metric": "val/top1", "of": {"a": 2}, "against": {"a": 1}, "where": {}, "expect": "higher", "margin": None}
    return {**base, **changes}


def two_sides(one, two, *contrasts, metric="val/top1", **changes):
    """A sweep over ``a``: its values 1 and 2 with one value of the metric for each seed."""
    trials = [
        trial({"a": a}, seed, "done", {metric: value})
        for a, side in ((1, one), (2, two))
        for seed, value in enumerate(side)
    ]
    changes.setdefault("seeds", tuple(range(len(one))))
    return sweep(trials, report={"contrasts": list(contrasts)}, **changes)


def test_the_three_contrasts_of_the_depth_sweep():
    answered = answers(digits())
    assert [answer.verdict for answer in answered] == ["as_expected"] * 3
    assert all(answer.p <= answer.p_holm < 0.05 for answer in answered)
    sentence = answered[0].sentence
    assert sentence.startswith(
        "With sgd, rate 0.1, 10 epochs, n = 3 seeds: fit/loss of depth=56 is higher than that of depth=20 where "
        "shortcut=none on these 1,400 training images: 1.4"
    )
    assert "p (Holm) = 0.0" in sentence
    assert sentence.endswith("As expected.")
    assert " points [" in answered[2].sentence


def test_by_hand():
    # differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 3.4641 with 2 degrees of freedom, p = 0.0742
    (answer,) = answers(two_sides([0, 0, 0], [1, 2, 3], contrast(metric="score"), metric="score"))
    assert answer.p == pytest.approx(0.07418, abs=1e-5)
    assert answer.p_holm == pytest.approx(answer.p / 0.8)  # the first analysis has 0.8 of the level
    # half width: 4.3027 / sqrt(3)
    assert (answer.difference.low, answer.difference.high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert answer.verdict == "not_resolved"
    # the next analysis has 0.1 of the level: 0.8 power at 0.005 for an effect of 2
    assert answer.seeds_needed.middle == 8
    assert answer.seeds_needed.low < 8 < answer.seeds_needed.high
    assert "About 8 seeds (from " in answer.sentence
    # at the tested level of 4 %: 4.8487 / sqrt(3)
    assert answer.level == pytest.approx(0.04)
    assert answer.level_interval == pytest.approx((2 - 2.7994, 2 + 2.7994), abs=1e-3)
    assert "at the tested level of 4 % [" in answer.sentence


def test_the_other_direction_is_called_that():
    (answer,) = answers(two_sides([0.5, 0.51, 0.52], [0.9, 0.915, 0.92], contrast(expect="lower")))
    assert answer.verdict == "opposite"
    assert "a=2 is higher than that of a=1" in answer.sentence
    assert answer.sentence.endswith("This is the opposite of what was expected.")


def test_correction_counts_every_declared_contrast():
    values = ([0.50, 0.51, 0.52], [0.60, 0.63, 0.66])
    (alone,) = answers(two_sides(*values, contrast()))
    many = answers(two_sides(*values, contrast(), *[contrast(of={"a": 7})] * 9))
    assert alone.verdict == "as_expected"
    assert many[0].p == alone.p
    assert many[0].p_holm == pytest.approx(10 * alone.p / 0.8)
    assert many[0].verdict == "not_resolved"
    assert many[1].p_holm is None
    assert "no two configs that were tried differ in this alone" in many[1].sentence


def test_one_seed_gives_no_interval_and_no_claim():
    (answer,) = answers(two_sides([0.1], [0.9], contrast()))
    assert (answer.verdict, answer.n, answer.p, answer.difference.low) == ("not_resolved", 1, None, None)
    assert "[" not in answer.sentence
    assert "is higher" not in answer.sentence
    assert "n = 1 seed:" in answer.sentence


def test_identical_differences_are_not_a_proof():
    (answer,) = answers(two_sides([0.5, 0.6], [0.5 + 1 / 397, 0.6 + 1 / 397], contrast()))
    assert (answer.verdict, answer.p) == ("not_resolved", None)
    assert "the same in all 2 pairs" in answer.sentence


def test_only_common_seeds_are_paired_and_the_rest_is_named():
    state = two_sides([0.1, 0.2, 0.3, 0.4], [0.5, 0.7, 0.8, 0.9], contrast())
    trials = {(trial.values["a"], trial.seed): trial for trial in state.plan_trials()}
    lost = trial({"a": 2}, 1, "failed", failure=("diverged", "the loss became nan"))
    trials[2, 1].status, trials[2, 1].failures = "failed", lost.failures
    trials[1, 3].status = "running"
    (answer,) = answers(state)
    assert (answer.n, answer.verdict, answer.p) == (2, "in_progress", None)
    assert answer.of.mean == pytest.approx((0.5 + 0.8) / 2)
    assert answer.against.mean == pytest.approx((0.1 + 0.3) / 2)
    assert answer.notes[-2:] == (
        "seed 1 left out: a=2 diverged: the loss became nan",
        "seed 3 left out: a=1 is still running",
    )


def test_no_common_seed_says_why():
    state = two_sides([0.1], [0.5], contrast())
    state.plan_trials()[1].status = "waiting"
    (answer,) = answers(state)
    assert (answer.n, answer.difference) == (0, None)
    assert "no common seed (seed 0 left out: a=2 is to come)" in answer.sentence


def test_other_searched_keys_are_averaged_within_the_seed():
    trials = [
        trial({"a": a, "b": b}, seed, "done", {"val/top1": 0.1 * a + 0.05 * b + 0.01 * seed * a * a})
        for a in (1, 2)
        for b in (0, 4)
        for seed in (0, 1, 2)
    ]
    state = sweep(trials, report={"contrasts": [contrast()]})
    (answer,) = answers(state)
    assert answer.n == 3
    assert answer.of.mean == pytest.approx(0.2 + 0.1 + 0.04)
    assert "averaged over 2 pairs of configs" in answer.sentence
    lost = next(trial for trial in trials if trial.values == {"a": 2, "b": 4} and trial.seed == 1)
    lost.status = "failed"
    (answer,) = answers(state)
    assert answer.n == 2  # never a seed that is averaged over fewer configs than the others
    assert any("seed 1 left out: a=2 b=4" in note for note in answer.notes)


def test_where_may_name_what_was_not_searched():
    state = two_sides(
        [0.1, 0.2], [0.5, 0.7], contrast(where={"optimizer.name": "sgd"}), contrast(where={"optimizer.name": "adam"})
    )
    sgd, adam = answers(state)
    assert (sgd.n, adam.n) == (2, 0)


def test_a_searched_mapping_is_looked_into():
    models = {"small": {"name": "resnet", "depth": 20}, "large": {"name": "resnet", "depth": 56}}
    trials = [
        trial({"model": model}, seed, "done", {"val/top1": model["depth"] / 100 + seed * seed / 100})
        for model in models.values()
        for seed in (0, 1, 2)
    ]
    by_key = contrast(of={"model.depth": 56}, against={"model.depth": 20})
    by_value = contrast(of={"model": models["large"]}, against={"model": models["small"]})
    assert [answer.n for answer in answers(sweep(trials, report={"contrasts": [by_key, by_value]}))] == [3, 3]


def test_true_is_not_one():
    trials = [trial({"a": a}, 0, "done", {"val/top1": 0.5}) for a in (True, 1)]
    state = sweep(trials, report={"contrasts": [contrast(of={"a": True}, against={"a": 1})]})
    assert answers(state)[0].n == 1


@pytest.mark.parametrize(
    ("metric", "one", "two"),
    [("val/top1", [0.90, 0.91, 0.92], [0.899, 0.911, 0.918]), ("val/loss", [0.10, 0.11, 0.12], [0.101, 0.109, 0.122])],
)
def test_not_worse_within_its_margin(metric, one, two):
    asked = contrast(metric=metric, expect="not_worse", margin=0.02)
    (answer,) = answers(two_sides(one, two, asked, metric=metric))
    assert answer.verdict == "as_expected"
    assert "is not worse than that of a=1 by" in answer.sentence
    assert "one-sided 95 % bound" in answer.sentence
    worse = answer.difference.mean - answer.bound
    assert (worse > 0) == (metric == "val/top1")  # the bound lies on the bad side of the difference


def test_not_worse_needs_a_margin_and_gives_no_number_of_seeds_beyond_it():
    sides = ([0.90, 0.91, 0.92], [0.80, 0.82, 0.81])
    (without,) = answers(two_sides(*sides, contrast(expect="not_worse")))
    assert (without.verdict, without.p) == ("not_resolved", None)
    assert "needs a declared `margin`" in without.sentence
    (beyond,) = answers(two_sides(*sides, contrast(expect="not_worse", margin=0.01)))
    assert (beyond.verdict, beyond.seeds_needed) == ("not_resolved", None)
    assert "The difference itself reaches the margin" in beyond.sentence


def test_not_worse_of_a_metric_whose_direction_nobody_knows():
    asked = contrast(metric="my/score", expect="not_worse", margin=0.02)
    (answer,) = answers(two_sides([0.9, 0.91], [0.9, 0.92], asked, metric="my/score"))
    assert "it is not known whether more of my/score is better" in answer.sentence


def test_the_best_epoch_is_named_where_it_counts():
    state = two_sides([0.1, 0.2], [0.5, 0.7], contrast(), select="best_epoch")
    assert "val/top1 (best epoch) of a=2" in answers(state)[0].sentence


def test_searched_optimizer_and_rate_are_not_named_as_fixed():
    trials = [
        trial({"optimizer.lr": lr}, seed, "done", {"val/top1": lr + seed**2 / 9})
        for lr in (0.1, 0.2)
        for seed in (0, 1)
    ]
    asked = contrast(of={"optimizer.lr": 0.2}, against={"optimizer.lr": 0.1})
    assert "rate searched" in answers(sweep(trials, report={"contrasts": [asked]}))[0].sentence


def test_nothing_declared_nothing_answered():
    assert answers(two_sides([0.1], [0.2])) == []
