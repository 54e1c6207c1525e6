"""Learning curves as small multiples: one panel for each config, all on the same axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from expflow.ledger.header import Header
from expflow.report import words
from expflow.report.drawing import INK, PALETTE, Drawing, canvas, dress, finished, literal, set_scale, shortened
from expflow.report.learning import Curves, Panel


def loss_panels(data: Curves) -> Drawing:
    """Training and validation loss, one small panel for each config, all on the same axes."""
    figure, grid = _panel_grid(data)
    values = [
        value
        for panel in data.panels
        for name in data.losses
        if name in panel.curves
        for value in panel.curves[name].mean
    ]
    for axes, panel in zip(grid, data.panels, strict=True):
        set_scale(axes, data.losses[0], values)
        _draw_panel(axes, panel, data.losses)
    _curve_limits(grid[0], values)
    figure.supylabel("loss, lower is better", fontsize=10, color=INK)
    handles = [
        Line2D([], [], color=PALETTE[at], linestyle=("-", "--")[at], linewidth=1.8) for at in range(len(data.losses))
    ]
    figure.legend(handles, list(data.losses), loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    title = f"Learning curves: {words.and_join(data.losses)}"
    return finished(figure, "learning-loss", title, data.caption, f"{title} by {data.axis}, one panel for each config.")


def metric_panels(data: Curves, header: Header) -> Drawing:
    """The sweep's metric over training: each config in its panel, before all the others in grey."""
    figure, grid = _panel_grid(data)
    values = [value for panel in data.panels if data.metric in panel.curves for value in panel.curves[data.metric].mean]
    for axes, panel in zip(grid, data.panels, strict=True):
        set_scale(axes, data.metric, values)
        for other in data.panels:
            if data.metric in other.curves:
                axes.plot(other.curves[data.metric].x, other.curves[data.metric].mean, color="#C8C8C8", linewidth=0.9)
        _draw_panel(axes, panel, (data.metric,))
    _curve_limits(grid[0], values)
    figure.supylabel(literal(words.axis_label(data.metric, header)), fontsize=10, color=INK)
    title = f"Learning curves: {data.metric}"
    caption = f"{data.caption} Grey: the other configs." if len(data.panels) > 1 else data.caption
    return finished(figure, "learning-metric", title, caption, f"{title} by {data.axis}, one panel for each config.")


def _panel_grid(data: Curves) -> tuple[Figure, list[Axes]]:
    """A figure with one pair of axes for each panel, all with the same limits."""
    rows = math.ceil(len(data.panels) / data.columns)
    figure = canvas(max(2.5 * data.columns, 4.5) + 0.6, 2.3 * rows + 0.7)
    every = list(figure.subplots(rows, data.columns, sharex=True, sharey=True, squeeze=False).flat)
    for index, axes in enumerate(every):
        axes.set_visible(index < len(data.panels))
        dress(axes)
        axes.tick_params(labelbottom=index + data.columns >= len(data.panels))
    every[0].xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))  # shared by all
    figure.supxlabel(data.axis, fontsize=10, color=INK)
    return figure, every[: len(data.panels)]


def _draw_panel(axes: Axes, panel: Panel, metrics: Sequence[str]) -> None:
    for at, metric in enumerate(metrics):
        found = panel.curves.get(metric)
        if found is not None:
            marker = "." if len(found.x) == 1 else ""
            axes.plot(found.x, found.mean, color=PALETTE[at], linestyle=("-", "--")[at], linewidth=1.8, marker=marker)
            axes.fill_between(found.x, found.low, found.high, color=PALETTE[at], alpha=0.18, linewidth=0)
        for xs, ys in panel.broken.get(metric, ()):
            axes.plot(xs, ys, color=PALETTE[at], linestyle=":", linewidth=1.0)
    axes.set_title(literal(shortened(panel.label, 30)), fontsize=9, color=INK)


def _curve_limits(axes: Axes, values: Sequence[float]) -> None:
    """Limits from the means: a seed that explodes, or a band that touches zero, must not squeeze the others flat."""
    positive = [value for value in values if value > 0]
    if axes.get_yscale() == "log" and positive:
        axes.set_ylim(0.5 * min(positive), 3 * max(positive))
