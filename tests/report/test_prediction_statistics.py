"""Intervals over images and McNemar's test from kept predictions, for a sweep whose predictions are known."""

import pytest

from expflow.events import SplitEvaluated
from expflow.report.contrasts import answers
from expflow.report.leaderboard import selected_row
from expflow.report.page import write_report
from expflow.report.prediction_statistics import image_interval, mcnemar_sentences, trials_interval, with_mcnemar_notes
from expflow.report.terminal import evaluations_text, terminal_text
from expflow.report.test_evaluations import evaluation_section
from expflow.report.view import build_view
from expflow.sweep.result_location import ResultLocation
from expflow.sweep.test_evaluation import predictions_path
from expflow.training.evaluation.kept_detections import detections_file
from expflow.training.evaluation.overlaps import overlaps_file
from expflow.training.evaluation.prediction_recorder import predictions_file
from tests.report.predicted import keep, predictions
from tests.report.states import sweep, trial

CONTRAST = {
    "metric": "val/top1",
    "of": {"model.depth": 20},
    "against": {"model.depth": 8},
    "where": {},
    "expect": "higher",
    "margin": None,
}


@pytest.fixture
def state():
    trials = [
        trial({"model.depth": depth}, seed, "done", {"val/top1": 0.5 + depth / 100 + seed / 1000})
        for depth in (8, 20)
        for seed in range(2)
    ]
    for member in trials:  # ids as they are in a ledger: names of folders
        member.trial = f"{member.values['model.depth']:02d}{member.seed}"
    return sweep(trials, report={"contrasts": [CONTRAST]}, seeds=(0, 1))


def test_a_contrast_of_two_configs_is_tested_image_by_image(tmp_path, state):
    same = [True] * 20
    keep(tmp_path, state, "200", [*same, *[True] * 10, *[False] * 2])
    keep(tmp_path, state, "080", [*same, *[False] * 10, *[True] * 2])
    (answer,) = with_mcnemar_notes(answers(state), state, tmp_path)
    note = answer.notes[-1]
    # 2 * (C(12,0) + C(12,1) + C(12,2)) / 2^12 = 0.0386; the second seed has no predictions
    assert "seed 0: only depth=20 gets 10 right, only depth=8 2, p = 0.039." in note
    assert "seed 1" not in note
    assert "on the same 32 images" in note
    assert note in terminal_text(build_view(tmp_path, state), width=10_000)
    assert mcnemar_sentences("test", state, tmp_path) == []
    for name in ("200", "080"):
        keep(tmp_path, state, name, [True, False], split="test")
    assert "p = 1.00" in mcnemar_sentences("test", state, tmp_path)[0]


def test_other_images_other_metrics_and_damage_give_no_test(tmp_path, state):
    keep(tmp_path, state, "200", [True] * 5)
    keep(tmp_path, state, "080", [True] * 6)
    assert with_mcnemar_notes(answers(state), state, tmp_path) == answers(state)
    keep(tmp_path, state, "080", [True] * 5)
    assert with_mcnemar_notes(answers(state), state, tmp_path) != answers(state)
    predictions_path(tmp_path, state, "080", "val").write_bytes(b"half of it")
    assert with_mcnemar_notes(answers(state), state, tmp_path) == answers(state)


def test_the_interval_over_images_averages_the_seeds_image_by_image(tmp_path, state):
    keep(tmp_path, state, "200", [True, False] * 50)
    winner = selected_row(state)
    assert trials_interval(tmp_path, state, winner.trials, "val/top1") is None  # one seed has none
    keep(tmp_path, state, "201", [False, True] * 50)
    interval = trials_interval(tmp_path, state, winner.trials, "val/top1")
    assert (interval.mean, interval.n) == (0.5, 100)
    assert 0.48 < interval.low < 0.5 < interval.high < 0.52  # each image is right once: half an image is all
    keep(tmp_path, state, "201", [True, False] * 50)
    interval = trials_interval(tmp_path, state, winner.trials, "val/top1")
    assert interval.low == pytest.approx(0.4, abs=0.011)
    both = trials_interval(tmp_path, state, winner.trials, "val/top1", both=True)
    assert both.low < interval.low < 0.5 < interval.high < both.high
    assert image_interval([predictions([True])], "val/loss") is None
    assert image_interval([predictions([True])], "val/top5") is None
    assert image_interval([], "val/top1") is None


def test_evaluations_are_listed_with_what_they_gave(tmp_path, state):
    assert evaluation_section(state, tmp_path) is None
    config = state.trials["200"].config
    shas = {name: keep(tmp_path, state, name, [True] * 9 + [False], "test") for name in ("200", "201")}
    metrics = {
        "200": {"test/top1": 0.9, "test/top5": 1.0, "test/loss": 0.25},
        "201": {"test/top1": 0.8, "test/top5": 0.9, "test/loss": 0.75},
    }
    state.split_evaluations.append(
        SplitEvaluated(config, "test", "d1", 1, False, metrics, shas, when="2026-01-02 03:04 UTC")
    )
    section = evaluation_section(state, tmp_path)
    assert section.sentence == "There was 1 evaluation on the test split."
    titles = [column.title for column in section.table.columns]
    row = dict(zip(titles, section.table.rows[0], strict=True))
    assert row["test/top1"] == "85.00 %"
    assert row["over seeds"] == "[80.00, 90.00]"
    assert row["over images"].startswith("[")
    assert row["over both"].startswith("[")
    assert row["val/top1"] == "70.05 %"
    assert row["test/loss"] == "0.500"
    assert (row["config"], row["when"], row["what"]) == ("depth=20", "2026-01-02 03:04 UTC", "mean of 2 seeds")
    text = evaluations_text(section)
    assert "Evaluation 1, mean of 2 seeds: test/top5 95.00 %." in text
    assert "their range" in text
    assert "selected on val is optimistic" in text
    assert "Over images: 95 % interval" in text
    keep(tmp_path, state, "201", [True] * 10, "test")  # of a later evaluation: no interval is made up for the first
    row = dict(zip(titles, evaluation_section(state, tmp_path).table.rows[0], strict=True))
    assert row["over images"] == row["over both"] == ""
    assert "nothing is kept of each test image" in evaluations_text(evaluation_section(state, tmp_path), 1000)
    combined = SplitEvaluated(
        config,
        "test",
        "d1",
        3,
        True,
        {"200": metrics["200"], "ensemble": {"test/top1": 0.95}},
        members={"ensemble": ["200", "201"]},
        val={"ensemble": {"val/top1": 0.9}},
    )
    state.split_evaluations.append(combined)
    section = evaluation_section(state, tmp_path)
    assert section.sentence.startswith("There were 3 evaluations on the test split, 2 of them by these results.")
    row = dict(zip(titles, section.table.rows[-1], strict=True))
    assert (row["#"], row["what"], row["test/top1"]) == ("3 (again)", "ensemble of 2", "95.00 %")
    assert row["val/top1"] == "90.00 %"


@pytest.mark.parametrize(
    ("kept", "options"),
    [
        (None, ()),
        (predictions_file, ("--worst", "--confusion")),
        (overlaps_file, ("--worst",)),
        (detections_file, ("--worst",)),
    ],
)
def test_pictures_are_offered_of_what_the_selected_trial_keeps(tmp_path, state, kept, options):
    first = selected_row(state).trials[0]
    folder = ResultLocation(tmp_path, state).trial_folder(first)
    folder.mkdir(parents=True)
    if kept is not None:
        (folder / kept("val")).touch()
    view = build_view(tmp_path, state)
    assert view.drawing_options == options
    page = write_report(tmp_path, state).html.read_text()
    command = f"expflow show {view.name}/best " + " ".join(options)
    assert ("None was drawn yet" in page) == (command in page) == bool(options)
