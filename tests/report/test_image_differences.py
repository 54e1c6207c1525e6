"""For which images an answer holds (docs/inference.md, "For which images")."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expflow.intervals import two_way_error
from expflow.report import answers
from expflow.report.image_differences import image_test
from expflow.report.statistics import paired_test
from tests.report.predicted import keep
from tests.report.states import sweep, trial

CONTRAST = {"metric": "val/top1", "of": {"a": 2}, "against": {"a": 1}, "where": {}, "expect": "higher", "margin": None}
IMAGES = 40


def state(hits, losses=None, **changes):
    """(config, seed, image) hits of the configs ``a`` 1 and 2."""
    trials = []
    for a, rows in ((1, hits[0]), (2, hits[1])):
        for seed, row in enumerate(rows):
            metrics = {"val/top1": float(np.mean(row))}
            if losses is not None:
                metrics["val/loss"] = float(np.mean(losses[a - 1][seed]))
            member = trial({"a": a}, seed, "done", metrics)
            member.trial = f"{a:02d}{seed}"
            trials.append(member)
    changes.setdefault("report", {"contrasts": [CONTRAST]})
    return sweep(trials, data={"key": "d", "samples": {"val": len(hits[0][0]), "train": 7}}, **changes)


def kept(folder, made, hits, losses=None):
    for a in (1, 2):
        for seed, row in enumerate(hits[a - 1]):
            keep(folder, made, f"{a:02d}{seed}", row, losses=None if losses is None else losses[a - 1][seed])


def shifted(right, *more):
    """Hits of three seeds: the first ``right`` images and some more."""
    rows = np.zeros((len(more), IMAGES), bool)
    for row, extra in zip(rows, more, strict=True):
        row[: right + extra] = True
    return rows


def test_the_test_over_seeds_and_images_by_hand():
    differences = np.asarray([[1.0, 0.0, 1.0, 2.0], [0.0, 0.0, 2.0, 3.0]])
    error = two_way_error(differences.mean(axis=1).std(ddof=1), 2, differences.mean(axis=0).std(ddof=1), 4)
    over = image_test(differences)
    assert over.images == 4
    assert (over.low + over.high) / 2 == pytest.approx(1.125)
    assert over.freedom == pytest.approx(error.freedom)
    # with no spread over images it is the paired test
    rows = np.repeat(np.asarray([[0.1], [0.3], [0.5]]), 5, axis=1)
    assert image_test(rows).p == pytest.approx(paired_test([0.1, 0.3, 0.5], [0.0] * 3).p)
    assert image_test(rows, margin=0.2).p == pytest.approx(paired_test([0.1, 0.3, 0.5], [0.0] * 3, 0.2).p)


def test_a_difference_on_few_images_holds_for_these_alone(tmp_path):
    hits = shifted(30, 0, 0, 1), shifted(33, 0, 1, 1)  # three images more, with every seed
    made = state(hits)
    kept(tmp_path, made, hits)
    (answer,) = answers(made, tmp_path)
    assert (answer.verdict, answer.holds_for) == ("as_expected", "these_images")
    assert answer.p_other_images > 0.05 > answer.p_holm
    assert answer.other_images.low < 0 < answer.difference.mean
    assert "on these 40 validation images" in answer.sentence
    assert any(note.startswith("For other images than these 40 it is not resolved") for note in answer.notes)


def test_a_difference_on_most_images_holds_for_others(tmp_path):
    hits = shifted(5, 0, 1, 0), shifted(32, 0, 2, 1)
    made = state(hits)
    kept(tmp_path, made, hits)
    (answer,) = answers(made, tmp_path)
    assert (answer.verdict, answer.holds_for) == ("as_expected", "other_images")
    assert answer.p_other_images >= answer.p_holm
    assert "on these" not in answer.sentence
    assert any(note.startswith("It holds for other images like these 40, too") for note in answer.notes)


def test_without_values_per_image_it_is_about_these(tmp_path):
    hits = shifted(5, 0, 1, 0), shifted(32, 0, 2, 1)
    made = state(hits)
    for folder in (None, tmp_path):
        (answer,) = answers(made, folder)
        assert (answer.holds_for, answer.p_other_images) == ("these_images", None)
        assert any("no values per image are kept" in note for note in answer.notes)
    kept(tmp_path, made, hits)
    keep(tmp_path, made, "020", [True] * 39)  # other images
    assert answers(made, tmp_path)[0].p_other_images is None


def test_values_that_are_not_those_of_the_metric_are_not_used(tmp_path):
    hits = shifted(5, 0, 1, 0), shifted(32, 0, 2, 1)
    made = state(hits)
    kept(tmp_path, made, (hits[0], shifted(31, 0, 2, 1)))  # of another epoch than the one that counts
    assert answers(made, tmp_path)[0].p_other_images is None


def test_losses_are_means_over_images_and_time_is_of_none(tmp_path):
    rng = np.random.default_rng(0)
    hits = shifted(5, 0, 1, 0), shifted(32, 0, 2, 1)
    losses = rng.normal(2.0, 0.1, (3, IMAGES)), rng.normal(1.0, 0.1, (3, IMAGES))
    of_loss = {**CONTRAST, "metric": "val/loss", "expect": "lower"}
    of_time = {**CONTRAST, "metric": "cost/seconds"}
    made = state(hits, losses, report={"contrasts": [of_loss, of_time]})
    for member in made.plan_trials():
        member.reports[-1].metrics["cost/seconds"] = 5.0 * member.values["a"] + member.seed**2 / 10 * member.values["a"]
    kept(tmp_path, made, hits, losses)
    loss, time = answers(made, tmp_path)
    assert (loss.verdict, loss.holds_for) == ("as_expected", "other_images")
    assert (time.verdict, time.holds_for) == ("as_expected", "no_images")
    assert "images" not in " ".join([time.sentence, *time.notes])


@given(st.integers(0, 2**31))
def test_the_answer_for_other_images_is_never_surer_than_that_for_these(seed):
    rng = np.random.default_rng(seed)
    differences = rng.normal(0.3, 1.0, (4, 1)) + rng.standard_normal((4, 25))
    p = paired_test(differences.mean(axis=1), np.zeros(4)).p
    assert max(p, image_test(differences).p) >= p


def test_equal_configs_on_other_images_are_seldom_called_different():
    """Smaller than in benchmarks/false_calls.py: 500 users, seeded; a test over seeds alone says so to most of them."""
    rng = np.random.default_rng(0)
    for n, too_often in ((3, 0.1), (10, 0.2)):
        called = before = 0
        for _ in range(500):
            differences = 0.1 * rng.standard_normal((1, 397)) + 0.002 * rng.standard_normal((n, 1))
            differences = differences + 0.1 * rng.standard_normal((n, 397))
            p = paired_test(differences.mean(axis=1), np.zeros(n)).p
            called += max(p, image_test(differences).p) <= 0.04
            before += p < 0.05
        assert called / 500 <= 0.07
        assert before / 500 > too_often
