from __future__ import annotations

import math
from pathlib import Path

import pytest

from expflow.ledger.state import SweepState
from expflow.report import build_view, rank_configs, selected_row, terminal_text
from expflow.report.leaderboard_table import ranked_table, stopped_table
from expflow.report.trial_results import failures, progress
from tests.report.states import digits, sweep, trial


def text(state, **arguments):
    return terminal_text(build_view(Path("no such folder"), state), **arguments)


def top1(*values, **more):
    """Reports of one trial, an epoch each."""
    return [{"val/top1": value, "progress/epoch": float(at), **more} for at, value in enumerate(values, start=1)]


def test_the_digits_table():
    board = rank_configs(digits())
    assert [row.rank for row in board.rows] == list(range(1, 9))
    assert board.rows[-1].values == {"model.depth": 56, "model.shortcut": "none"}
    means = [row.estimate.mean for row in board.rows]
    assert means == sorted(means, reverse=True)
    assert all(row.estimate.n == 3 and row.estimate.kind == "logit" for row in board.rows)
    shown = ranked_table(board)
    assert [column.title for column in shown.columns] == [
        *("#", "depth", "shortcut", "val/top1", "interval", "n", "fit/loss", "parameters", "multiply-adds", "time")
    ]
    assert shown.rows[-1][-3:] == ("823.2 k", "123.2 M", "6.7 s")


def test_what_the_interval_covers_and_that_the_winner_was_selected_is_said():
    notes = " ".join(rank_configs(digits()).notes)
    assert "training seeds, not the choice of 397 validation images: one image is 0.25 points" in notes
    assert "depth=20 shortcut=pad was selected on val, hence its val score is optimistic" in notes
    assert "exploratory" in notes


def test_a_metric_to_be_minimised_is_ranked_upwards():
    trials = [trial({"a": a}, 0, "done", {"val/loss": loss}) for a, loss in ((1, 0.5), (2, 0.1))]
    state = sweep(trials, metric="val/loss", mode="min", report={})
    assert [row.values["a"] for row in rank_configs(state).rows] == [2, 1]
    assert selected_row(state).values == {"a": 2}


def test_failed_and_diverged_seeds_stand_beside_the_mean():
    trials = [
        trial({"a": 1}, 0, "done", *top1(0.9)),
        trial({"a": 1}, 1, "failed", *top1(0.5), failure=("diverged", "the loss became nan")),
        trial({"a": 1}, 2, "failed", failure=("code", "ValueError: no")),
        trial({"a": 2}, 0, "done", *top1(math.nan)),
    ]
    state = sweep(trials, report={})
    row, lost = rank_configs(state).rows
    assert row.estimate.mean == 0.9
    assert row.estimate.kind == "none"
    assert row.seeds_text == "1 of 3 (s1 diverged, s2 failed)"
    assert (lost.rank, lost.estimate, lost.seeds_text) == (None, None, "0 of 1 (s0 diverged)")
    assert [failure.kind for failure in failures(state)] == ["diverged", "failed", "diverged"]
    assert failures(state)[1].reason == "code: ValueError: no"
    assert "not in the mean" in " ".join(rank_configs(state).notes)


def test_a_finished_trial_without_the_metric_is_named():
    state = sweep([trial({"a": 1}, 0, "done", {"val/loss": 1.0})], report={})
    assert selected_row(state) is None
    assert failures(state)[0].reason == "its last report has no val/top1"


def test_stopped_trials_are_listed_by_rung_and_never_averaged():
    trials = [
        trial({"a": 1}, 0, "done", *top1(0.5, 0.6, 0.7, 0.8)),
        trial({"a": 1}, 1, "stopped", *top1(0.99)),
        trial({"a": 2}, 0, "stopped", *top1(0.1, 0.2)),
        trial({"a": 3}, 0, "stopped", *top1(0.3, 0.4)),
    ]
    board = rank_configs(sweep(trials, report={}))
    assert board.rows[0].estimate.mean == 0.8
    assert board.rows[0].seeds_text == "1 of 2 (s1 stopped)"
    assert [row.rank for row in board.rows] == [1, None, None]
    assert [row[:3] for row in stopped_table(board).rows] == [
        ("epoch 2", "a=3", "0"),
        ("epoch 2", "a=2", "0"),
        ("epoch 1", "a=1", "1"),
    ]


def test_the_best_epoch_counts_only_where_the_file_says_so_and_both_are_shown():
    trials = [trial({"a": 1}, 0, "done", *top1(0.9, 0.6)), trial({"a": 2}, 0, "done", *top1(0.7, 0.8))]
    assert selected_row(sweep(trials, report={})).values == {"a": 2}
    board = rank_configs(sweep(trials, report={}, select="best_epoch"))
    assert board.winner.values == {"a": 1}
    assert (board.winner.estimate.mean, board.winner.last.mean) == (0.9, 0.6)
    titles = [column.title for column in ranked_table(board).columns]
    assert "best epoch's val/top1" in titles
    assert "last val/top1" in titles


def test_two_seeds_show_their_range():
    state = sweep([trial({"a": 1}, seed, "done", *top1(value)) for seed, value in enumerate((0.98, 0.99))], report={})
    assert "[98.00, 99.00]" in text(state)
    assert "two seeds: their range" in text(state, width=300).lower()


def test_an_unfinished_sweep_says_so_first():
    state = sweep([trial({"a": a}, 0, "done", *top1(0.5)) for a in range(17)], expected_trials=24, report={})
    assert text(state).startswith("Not finished: 17 of 24 trials done, 7 to come.")
    assert not progress(state).complete


def test_no_trials_and_no_ledger_at_all():
    for state in (SweepState(), sweep([], report={})):
        board = rank_configs(state)
        assert (board.rows, board.stopped, board.notes, board.winner) == ((), (), (), None)
        assert text(state) == "No trial yet.\n"


def test_one_config_without_a_space():
    board = rank_configs(sweep([trial({}, 0, "done", *top1(0.9))], space=(), report={}))
    assert board.winner.label == "base recipe"
    assert "selected" not in " ".join(board.notes)
    assert ranked_table(board).rows[0][:3] == ("1", "base recipe", "90.00 %")


def test_searched_keys_with_the_same_last_part_keep_enough_of_it():
    board = rank_configs(
        sweep([trial({"model.width": 1, "stem.width": 2}, 0, "done", *top1(0.9))], space=(), report={})
    )
    assert [column.title for column in ranked_table(board).columns][1:3] == ["model.width", "stem.width"]


def test_a_long_table_is_cut_in_the_terminal_and_says_so():
    state = sweep([trial({"a": a}, 0, "done", *top1(0.5)) for a in range(30)], report={})
    assert "… and 25 more" in text(state, most=5)
    assert "more" not in text(state, most=None).split("\n\n")[0]


@pytest.mark.parametrize("width", [60, 100])
def test_paragraphs_keep_the_width(width):
    state = sweep([trial({"a": a}, 0, "done", *top1(0.5)) for a in range(2)], report={})
    paragraphs = text(state, width=width).split("\n\n")[1]
    assert max(map(len, paragraphs.splitlines())) <= width
