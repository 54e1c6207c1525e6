"""What the choice of the best config is worth (docs/inference.md, "Best of k")."""

import numpy as np
import pytest
from scipy.special import expit

from expflow.report.best_of_k import best_of_k, selection_estimate
from expflow.report.leaderboard import rank_configs
from expflow.report.view import build_view
from tests.report.predicted import keep
from tests.report.states import sweep, trial


def hits(rng, k, n, images, noise, together):
    difficulty = 2.0 * rng.standard_normal((1, 1, images))
    own, luck = together * rng.standard_normal((k, 1, images)), noise * rng.standard_normal((k, n, 1))
    return (rng.random((k, n, images)) < expit(4.0 + difficulty + own + luck)).astype(float)


@pytest.mark.parametrize("noise", [0.05, 0.4])
@pytest.mark.parametrize("together", [0.0, 1.0])
def test_the_best_of_equal_configs_is_worth_no_more_than_any(noise, together):
    """Smaller than in benchmarks/false_calls.py: 60 choices among 20 configs, seeded."""
    rng = np.random.default_rng(3)
    spread = np.sqrt(4.0 + noise**2 + together**2)
    truth = expit(4.0 + spread * rng.standard_normal(1_000_000)).mean()
    scores, held, optimistic = [], 0, []
    for _ in range(60):
        values = hits(rng, 20, 3, 397, noise, together)
        over = selection_estimate(values, share=True, resamples=40)
        scores.append(over.score)
        held += over.low <= truth <= over.high
        optimistic.append(values.mean(axis=(1, 2)).max())
    assert abs(np.mean(scores) - truth) < 0.003
    assert np.mean(optimistic) - truth > 0.004
    assert held >= 53


def test_a_better_config_is_found_and_keeps_its_score():
    rng = np.random.default_rng(0)
    values = np.stack([rng.random((3, 200)) < 0.6, rng.random((3, 200)) < 0.95]).astype(float)
    over = selection_estimate(values, share=True)
    assert over.score == pytest.approx(values[1].mean(), abs=0.01)
    assert over.low < over.score < over.high < 1


def test_a_config_that_breaks_down_and_is_never_chosen_does_not_widen_the_interval():
    rng = np.random.default_rng(0)
    good = rng.random((2, 5, 400)) < 0.97
    broken = rng.random((1, 5, 400)) < np.asarray([0.1, 0.9, 0.3, 0.95, 0.2])[:, None]
    alone = selection_estimate(good.astype(float), share=True)
    beside = selection_estimate(np.concatenate([good, broken]).astype(float), share=True)
    assert beside.high - beside.low == pytest.approx(alone.high - alone.low, rel=0.2)


@pytest.fixture
def state():
    trials = [
        trial({"a": a}, seed, "done", {"val/top1": right / 20}) for a, right in ((1, 18), (2, 16)) for seed in range(3)
    ]
    for member in trials:
        member.trial = f"{member.values['a']:02d}{member.seed}"
    return sweep(trials, report={}, data={"key": "d", "samples": {"val": 20}})


def keep_all(folder, state):
    for member in state.plan_trials():
        right = round(member.metrics["val/top1"] * 20)
        keep(folder, state, member.trial, [True] * right + [False] * (20 - right))


def test_the_leaderboard_says_what_its_choice_is_worth(tmp_path, state):
    assert "values per image are not kept" in best_of_k(rank_configs(state), state, tmp_path).why
    keep_all(tmp_path, state)
    best = best_of_k(rank_configs(state), state, tmp_path)
    assert (best.configs, best.tried) == (2, 2)
    assert best.low < best.score < best.high
    view = build_view(tmp_path, state)
    assert view.best == best
    assert any("Choosing the best of 2 configs is worth " in note for note in view.leaderboard_notes)


def test_configs_of_other_results_count_as_tried(tmp_path, state):
    keep_all(tmp_path, state)
    other = sweep([trial({"a": a}, 0, "done", {"val/top1": 0.5}) for a in (7, 8)], data={"key": "d"})
    elsewhere = sweep([trial({"a": 9}, 0, "done", {"val/top1": 0.5})], data={"key": "other images"})
    best = best_of_k(rank_configs(state), state, tmp_path, related=[other, elsewhere])
    assert (best.configs, best.tried) == (2, 4)


def test_with_one_seed_it_cannot_be_estimated(tmp_path, state):
    for name in [name for name, member in state.trials.items() if member.seed]:
        del state.current[name]
    best = best_of_k(rank_configs(state), state, tmp_path)
    assert best.why == "that takes two seeds that all of them have"
    assert best.score is None


def test_nothing_was_chosen_of_one_config(tmp_path):
    assert best_of_k(rank_configs(sweep([trial({}, 0, "done", {"val/top1": 0.5})])), sweep([]), tmp_path) is None


def test_a_metric_to_be_minimised_is_chosen_downwards():
    rng = np.random.default_rng(1)
    losses = np.stack([rng.normal(2.0, 0.1, (3, 50)), rng.normal(1.0, 0.1, (3, 50))])
    over = selection_estimate(-losses, share=False)
    assert -over.score == pytest.approx(1.0, abs=0.03)
