"""What figures draw, read off matplotlib's own objects."""

from __future__ import annotations

import pytest

from expflow.ledger.state import SweepState
from expflow.report import curve_panels
from expflow.report.canvas import new_figure, tick_label, write_title
from expflow.report.curve_panels import metric_panels, panel_grid
from expflow.report.figure_data import collect_figure
from expflow.report.figures import plot_figure
from expflow.report.learning_curves import learning_curves
from tests.report import states


def sweep(*top1: float, epochs: int = 1) -> SweepState:
    """One config with a seed for each of ``top1``."""
    reports = [{"progress/epoch": float(epoch), "val/top1": 0.5} for epoch in range(1, epochs)]
    return states.sweep(
        [
            states.trial(
                {"model.depth": 20}, seed, "done", *reports, {"progress/epoch": float(epochs), "val/top1": value}
            )
            for seed, value in enumerate(top1)
        ]
    )


def drawn(state: SweepState) -> tuple[list[float], list[float], tuple[float, float], str]:
    """Ends of the bar, its caps, the y limits, and what is added to the caption."""
    figure, note = plot_figure(collect_figure(state, {"x": "model.depth", "y": "val/top1"}))
    (axes,) = figure.axes
    _, bar, caps, *_ = axes.get_lines()
    return list(bar.get_ydata()), list(caps.get_ydata()), axes.get_ylim(), note


@pytest.mark.parametrize("seeds", [(0.99, 0.97, 1.0), (0.01, 0.4, 0.05), (1.0, 1.0, 1.0)])
def test_the_bar_of_a_share_ends_within_0_and_100_percent(seeds: tuple[float, ...]) -> None:
    bar, caps, limits, note = drawn(sweep(*seeds))
    assert 0 < bar[0] < bar[1] < 1
    assert caps == bar
    assert -0.03 <= limits[0] < limits[1] <= 1.03
    assert note == ""


def test_a_bar_that_reaches_below_a_logarithmic_axis_is_cut_there_and_has_no_end() -> None:
    trials = [
        states.trial({"model.depth": depth}, seed, "done", {"val/loss": loss})
        for depth, losses in ((8, (0.001, 0.002, 0.02)), (20, (2.0, 2.1, 2.2)))
        for seed, loss in enumerate(losses)
    ]
    figure, note = plot_figure(collect_figure(states.sweep(trials), {"x": "model.depth", "y": "val/loss"}))
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    _, bar, caps, *_ = axes.get_lines()
    assert list(caps.get_ydata()) == [list(bar.get_ydata())[1]]
    assert note.endswith(" Bars without an end reach further.")


def test_an_interval_within_has_both_ends() -> None:
    bar, caps, _, note = drawn(sweep(0.5, 0.52, 0.51))
    assert caps == bar
    assert note == ""


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_epochs_are_whole_numbers(epochs: int) -> None:
    curves = learning_curves(sweep(0.5, 0.6, epochs=epochs))
    assert curves is not None
    _, grid = panel_grid(curves)
    grid[0].plot(curves.panels[0].curves["val/top1"].x, curves.panels[0].curves["val/top1"].mean)
    ticks = grid[0].get_xticks()
    assert all(float(tick).is_integer() for tick in ticks)
    assert any(1 <= tick <= epochs for tick in ticks)


def test_large_and_small_ticks_are_short() -> None:
    assert [tick_label(value) for value in (0, 0.001, 10_000, 1e6, 2e-5, 1e12)] == [
        "0", "0.001", "10000", "1e6", "2e-5", "1e12"
    ]  # fmt: skip


def test_a_single_report_of_a_failed_trial_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_figures = []
    monkeypatch.setattr(curve_panels, "render_figure", lambda figure, *texts: drawn_figures.append(figure))
    failed = states.trial({}, 0, "failed", {"val/top1": 0.3}, failure=("code", "the script says so"))
    curves = learning_curves(states.sweep([failed], report={}))
    assert curves is not None
    metric_panels(curves)
    (line,) = drawn_figures[0].axes[0].get_lines()
    assert line.get_marker() == "."


def test_a_title_over_few_pictures_is_broken_into_lines_that_fit():
    title = "Best and worst masks of leaves, model.width=16 model.norm=batch s0 on val"
    for width in (2.2, 3.4, 9.0):
        figure = new_figure(width, 4.0)
        figure.subplots(2, 2)
        write_title(figure, title)
        figure.canvas.draw()
        extent = figure._suptitle.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.width
