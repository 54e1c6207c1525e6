from __future__ import annotations

import random

import pytest

from expflow.report.figure_data import collect_figure, report_figures
from expflow.report.figures import draw_learning_curves
from expflow.report.leaderboard import rank_configs
from expflow.report.learning_curves import learning_curves
from tests.report.states import FIGURES, digits, sweep, trial


def grid(keys, seeds=1, y="val/top1"):
    """A full grid over ``keys`` (key -> values), the metric being the position in it."""
    combinations = [{}]
    for key, values in keys.items():
        combinations = [{**known, key: value} for known in combinations for value in values]
    trials = [
        trial(values, seed, "done", {y: at / 100 + seed / 1000, "progress/epoch": 1.0})
        for at, values in enumerate(combinations)
        for seed in range(seeds)
    ]
    space = tuple({"key": key, "kind": "choice", "values": list(values)} for key, values in keys.items())
    return sweep(trials, space=space, report={})


def test_the_figures_of_the_depth_sweep():
    data = collect_figure(digits(), FIGURES[1])
    assert data.numeric
    assert data.connected
    assert [line.label for line in data.lines] == ["shortcut=none", "shortcut=pad"]
    assert [point.x for point in data.lines[0].points] == [8, 20, 32, 56]
    assert all(len(point.seeds) == 3 and point.estimate.kind == "t" for line in data.lines for point in line.points)
    assert "n = 3" in data.caption
    assert "95 % t interval, for training seeds, not the choice of 1,400 training images" in data.caption


def test_the_bars_of_a_share_are_its_interval():
    data = collect_figure(digits(), FIGURES[0])
    over = [point.estimate for line in data.lines for point in line.points]
    assert {(interval.kind, 0 < interval.low < interval.high < 1) for interval in over} == {("logit", True)}


def test_an_unnamed_key_makes_lines_of_its_own():
    data = collect_figure(grid({"a": (1, 2), "b": ("x", "y"), "c": (3, 4)}), {"x": "a", "y": "val/top1", "line": "b"})
    assert [line.label for line in data.lines] == ["b=x c=3", "b=x c=4", "b=y c=3", "b=y c=4"]


def test_too_many_lines_are_averaged_without_interval_and_the_caption_says_so():
    data = collect_figure(grid({"a": (1, 2), "b": range(5), "c": range(4)}), {"x": "a", "y": "val/top1", "line": "b"})
    assert [line.label for line in data.lines] == [f"b={b}" for b in range(5)]
    point = data.lines[0].points[0]
    assert (point.estimate.n, point.estimate.kind) == (4, "none")
    assert "mean of trials that also differ in c" in data.caption
    assert "no interval" in data.caption


def test_a_sampled_key_gives_points_without_a_line():
    rng = random.Random(0)
    trials = [trial({"lr": rng.random(), "b": b}, 0, "done", {"val/top1": 0.5}) for b in (1, 2) for _ in range(20)]
    data = collect_figure(sweep(trials, space=(), report={}), {"x": "lr", "y": "val/top1", "line": "b"})
    assert not data.connected
    assert [len(line.points) for line in data.lines] == [20, 20]
    assert "One point for each config" in data.caption


def test_words_on_the_axis_keep_the_order_of_the_file():
    data = collect_figure(grid({"act": ("tanh", "relu", "gelu")}), {"x": "act", "y": "val/top1", "line": None})
    assert not data.numeric
    assert data.ticks == ("tanh", "relu", "gelu")


def test_failed_seeds_are_counted_at_their_point():
    trials = [
        trial({"a": 1}, 0, "done", {"val/top1": 0.5}),
        trial({"a": 1}, 1, "failed", failure=("code", "no")),
        trial({"a": 2}, 0, "failed", failure=("code", "no")),
    ]
    data = collect_figure(sweep(trials, report={}), {"x": "a", "y": "val/top1", "line": None})
    assert [(point.failed, point.estimate is None) for point in data.lines[0].points] == [(1, False), (1, True)]
    assert "2 trials without a value" in data.caption


def test_nothing_to_draw_is_said():
    assert collect_figure(sweep([]), FIGURES[0]).caption == "No trial has completed with this metric."


def test_curves_of_a_full_grid_keep_its_shape():
    shown = learning_curves(digits())
    assert (shown.axis, shown.columns, shown.losses) == ("epoch", 4, ("train/loss", "val/loss"))
    assert [panel.label for panel in shown.panels[:4]] == [f"depth={depth} shortcut=none" for depth in (8, 20, 32, 56)]
    curve = shown.panels[0].curves["val/top1"]
    assert curve.x == tuple(range(1, 11))
    assert all(low <= mean <= high for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True))


def test_of_many_configs_the_best_eight_are_shown_best_first():
    state = grid({"a": range(200)})
    shown = learning_curves(state)
    assert [panel.label for panel in shown.panels] == [row.label for row in rank_configs(state).rows[:8]]
    assert shown.panels[0].label == "a=199"
    assert "The 8 best of 200 configs" in shown.caption


def test_incomplete_seeds_never_enter_the_mean():
    whole = [{"val/top1": value} for value in (0.2, 0.4)]
    trials = [
        trial({"a": 1}, 0, "done", *whole),
        trial({"a": 1}, 1, "stopped", {"val/top1": 0.9}),
        trial({"a": 1}, 2, "failed", {"val/top1": 0.8}, failure=("diverged", "nan")),
    ]
    (panel,) = learning_curves(sweep(trials, report={})).panels
    assert panel.curves["val/top1"].mean == (0.2, 0.4)
    assert [ys for _, ys in panel.broken["val/top1"]] == [(0.9,), (0.8,)]


def test_without_epochs_the_axis_is_the_step():
    assert learning_curves(sweep([trial({}, 0, "done", {"val/top1": 0.5})], report={})).axis == "optimizer step"


def test_nan_is_left_out_of_a_curve():
    reports = [{"val/top1": 0.5, "progress/epoch": 1.0}, {"val/top1": float("nan"), "progress/epoch": 2.0}]
    (panel,) = learning_curves(sweep([trial({}, 0, "done", *reports)], report={})).panels
    assert panel.curves["val/top1"].x == (1.0,)


@pytest.mark.parametrize("state", [sweep([]), sweep([trial({}, 0, "waiting")])])
def test_no_report_no_curves(state):
    assert learning_curves(state) is None


def test_without_declared_figures_the_metric_is_drawn_against_each_searched_key():
    figures = report_figures(grid({"model.depth": (8, 20), "model.norm": ("batch", "none"), "loss.margin": (1.0,)}))
    assert [(figure.x, figure.y, figure.name) for figure in figures] == [
        ("model.depth", "val/top1", "val_top1-by-model_depth"),
        ("model.norm", "val/top1", "val_top1-by-model_norm"),
    ]
    assert [line.label for line in figures[0].lines] == ["norm=batch", "norm=none"]


def test_declared_figures_are_the_only_ones():
    assert [(figure.x, figure.y) for figure in report_figures(digits())] == [
        ("model.depth", "val/top1"),
        ("model.depth", "fit/loss"),
    ]


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [trial({}, 0, "done", {"val/top1": 0.5})],
        [trial({"a": value}, 0, "failed", failure=("code", "no")) for value in (1, 2)],
    ],
)
def test_nothing_is_drawn_by_default_where_there_is_nothing_to_compare(trials):
    space = ({"key": "a", "kind": "choice", "values": [1, 2]},)
    assert report_figures(sweep(trials, space=space, report={})) == []


def failing(*reports):
    return [
        trial({"a": 1, "b": 1}, 0, "done", {"val/top1": 0.5, "train/loss": 1.0, "progress/epoch": 1.0}),
        trial({"a": 2, "b": 1}, 0, "failed", failure=("code", "no")),
        trial({"a": 1, "b": 2}, 0, "done", {"val/top1": 0.6, "train/loss": 0.9, "progress/epoch": 1.0}),
        trial({"a": 2, "b": 2}, 0, "failed", *reports, failure=("code", "later")),
    ]


def test_configs_without_a_report_have_no_panel_and_the_caption_counts_them():
    shown = learning_curves(sweep(failing(), report={})).of(["val/top1"])
    assert [panel.label for panel in shown.panels] == ["a=1 b=1", "a=1 b=2"]
    assert shown.columns == 2
    assert shown.caption.endswith("2 configs without a value: no panel.")


def test_each_figure_leaves_out_the_configs_that_it_has_nothing_of():
    curves = learning_curves(sweep(failing({"train/loss": 2.0, "progress/epoch": 1.0}), report={}))
    assert len(curves.of(["train/loss"]).panels) == 3
    assert len(curves.of(["val/top1"]).panels) == 2
    assert curves.of(["val/loss"]) is None
    assert [figure.name for figure in draw_learning_curves(curves)] == ["learning-loss", "learning-metric"]
    only_loss = learning_curves(sweep([trial({}, 0, "failed", {"train/loss": 2.0}, failure=("code", "x"))], report={}))
    assert [figure.name for figure in draw_learning_curves(only_loss)] == ["learning-loss"]


def test_whole_panels_keep_their_grid():
    curves = learning_curves(digits())
    assert curves.of(["val/top1"]) is curves
