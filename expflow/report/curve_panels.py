"""Learning curves as small multiples: one panel for each config, all on the same axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from expflow.report import formatting
from expflow.report.canvas import (
    INK,
    RenderedFigure,
    escape_mathtext,
    new_figure,
    render_figure,
    set_y_scale,
    style_axes,
    truncated,
)
from expflow.report.learning_curves import ConfigCurves, CurveGrid
from expflow.report.palette import PALETTE


def loss_panels(grid: CurveGrid) -> RenderedFigure:
    """Training and validation loss, one small panel for each config, all on the same axes.

    Args:
        grid: The curves.
    """
    figure, panel_axes = panel_grid(grid)
    values = [
        value
        for panel in grid.panels
        for name in grid.losses
        if name in panel.curves
        for value in panel.curves[name].mean
    ]
    for axes, panel in zip(panel_axes, grid.panels, strict=True):
        set_y_scale(axes, grid.losses[0], values)
        _draw_panel(axes, panel, grid.losses)
    _curve_limits(panel_axes[0], values)
    figure.supylabel("loss, lower is better", fontsize=10, color=INK)
    handles = [
        Line2D([], [], color=PALETTE[at], linestyle=("-", "--")[at], linewidth=1.8) for at in range(len(grid.losses))
    ]
    figure.legend(handles, list(grid.losses), loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    title = f"Learning curves: {formatting.and_join(grid.losses)}"
    alt = f"{title} by {grid.axis}, one panel for each config."
    return render_figure(figure, "learning-loss", title, grid.caption, alt)


def metric_panels(grid: CurveGrid) -> RenderedFigure:
    """The sweep's metric over training: each config in its panel, before all the others in grey.

    Args:
        grid: The curves.
    """
    figure, panel_axes = panel_grid(grid)
    metric = grid.metric
    values = [value for panel in grid.panels if metric in panel.curves for value in panel.curves[metric].mean]
    for axes, panel in zip(panel_axes, grid.panels, strict=True):
        set_y_scale(axes, metric, values)
        for other in grid.panels:
            if metric in other.curves:
                axes.plot(other.curves[metric].x, other.curves[metric].mean, color="#C8C8C8", linewidth=0.9)
        _draw_panel(axes, panel, (metric,))
    _curve_limits(panel_axes[0], values)
    figure.supylabel(escape_mathtext(grid.metric_label), fontsize=10, color=INK)
    title = f"Learning curves: {metric}"
    caption = f"{grid.caption} Grey: the other configs." if len(grid.panels) > 1 else grid.caption
    alt = f"{title} by {grid.axis}, one panel for each config."
    return render_figure(figure, "learning-metric", title, caption, alt)


def panel_grid(grid: CurveGrid) -> tuple[Figure, list[Axes]]:
    """A figure with one pair of axes for each panel, all with the same limits.

    Args:
        grid: The curves that will be drawn.
    """
    rows = math.ceil(len(grid.panels) / grid.columns)
    figure = new_figure(max(2.5 * grid.columns, 4.5) + 0.6, 2.3 * rows + 0.7)
    cells = list(figure.subplots(rows, grid.columns, sharex=True, sharey=True, squeeze=False).flat)
    for index, axes in enumerate(cells):
        axes.set_visible(index < len(grid.panels))
        style_axes(axes)
        axes.tick_params(labelbottom=index + grid.columns >= len(grid.panels))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_label_coords(0, 0)  # it has no label: no place needs to be looked for
    cells[0].xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))  # shared by all
    figure.supxlabel(grid.axis, fontsize=10, color=INK)
    return figure, cells[: len(grid.panels)]


def _draw_panel(axes: Axes, panel: ConfigCurves, metrics: Sequence[str]) -> None:
    for at, metric in enumerate(metrics):
        curve = panel.curves.get(metric)
        if curve is not None:
            marker = "." if len(curve.x) == 1 else ""
            axes.plot(curve.x, curve.mean, color=PALETTE[at], linestyle=("-", "--")[at], linewidth=1.8, marker=marker)
            axes.fill_between(curve.x, curve.low, curve.high, color=PALETTE[at], alpha=0.18, linewidth=0)
        for xs, ys in panel.broken.get(metric, ()):
            marker = "." if len(xs) == 1 else ""  # a line needs two points to be seen
            axes.plot(xs, ys, color=PALETTE[at], linestyle=":", linewidth=1.0, marker=marker)
    # y: where matplotlib would put it, too, but after it has looked where all ticks are, each time it lays out or draws
    axes.set_title(escape_mathtext(truncated(panel.label, 30)), fontsize=9, color=INK, y=1.0)


def _curve_limits(axes: Axes, values: Sequence[float]) -> None:
    """Limits from the means: a seed that explodes, or a band that touches zero, must not squeeze the others flat."""
    positive = [value for value in values if value > 0]
    if axes.get_yscale() == "log" and positive:
        axes.set_ylim(0.5 * min(positive), 3 * max(positive))
