"""What figures draw, read off matplotlib's own objects."""

from __future__ import annotations

import pytest
import states

from expflow.ledger.state import SweepState
from expflow.report import results
from expflow.report.drawing import plain_number
from expflow.report.figures import _plot_figure
from expflow.report.learning import curves
from expflow.report.panels import _panel_grid
from expflow.report.series import plot


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
    header = results.header_of(state)
    figure, note = _plot_figure(plot(state, {"x": "model.depth", "y": "val/top1"}), header)
    (axes,) = figure.axes
    _, bar, caps, *_ = axes.get_lines()
    return list(bar.get_ydata()), list(caps.get_ydata()), axes.get_ylim(), note


def test_an_interval_beyond_100_percent_is_cut_there_and_has_no_end() -> None:
    bar, caps, limits, note = drawn(sweep(0.99, 0.97, 1.0))
    assert bar[1] == 1.0
    assert caps == [bar[0]]
    assert limits[1] <= 1.03
    assert note == " Bars without an end reach further."


def test_an_interval_below_0_is_cut_there() -> None:
    bar, caps, limits, _ = drawn(sweep(0.01, 0.4, 0.05))
    assert bar[0] == 0.0
    assert caps == [bar[1]]
    assert limits[0] >= -0.03


def test_an_interval_within_has_both_ends() -> None:
    bar, caps, _, note = drawn(sweep(0.5, 0.52, 0.51))
    assert caps == bar
    assert note == ""


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_epochs_are_whole_numbers(epochs: int) -> None:
    found = curves(sweep(0.5, 0.6, epochs=epochs))
    assert found is not None
    _, grid = _panel_grid(found)
    grid[0].plot(found.panels[0].curves["val/top1"].x, found.panels[0].curves["val/top1"].mean)
    ticks = grid[0].get_xticks()
    assert all(float(tick).is_integer() for tick in ticks)
    assert any(1 <= tick <= epochs for tick in ticks)


def test_large_and_small_ticks_are_short() -> None:
    assert [plain_number(value) for value in (0, 0.001, 10_000, 1e6, 2e-5, 1e12)] == [
        "0", "0.001", "10000", "1e6", "2e-5", "1e12"
    ]  # fmt: skip
