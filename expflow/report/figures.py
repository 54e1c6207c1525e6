"""Draws the figures that an experiment declares: a metric against a searched key, a line for each value of another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import offset_copy

from expflow.config.identity import value_text
from expflow.config.space import value_key
from expflow.metrics import is_share
from expflow.report.canvas import (
    INK,
    MARKERS,
    RenderedFigure,
    escape_mathtext,
    new_figure,
    render_figure,
    set_y_scale,
    style_axes,
    tick_label,
    truncated,
)
from expflow.report.curve_panels import loss_panels, metric_panels
from expflow.report.figure_data import FigureData, FigureLine, FigurePoint, places_of
from expflow.report.learning_curves import CurveGrid
from expflow.report.palette import FAILED, PALETTE, SPAN_FOR_LOG


def draw_figures(figures: Sequence[FigureData]) -> list[RenderedFigure]:
    """The figures that the experiment declares.

    Args:
        figures: Their data.
    """
    drawn = []
    for data in figures:
        figure, note = plot_figure(data)
        drawn.append(render_figure(figure, data.name, data.title, f"{data.caption}{note}", data.alt))
    return drawn


def draw_learning_curves(grid: CurveGrid | None) -> list[RenderedFigure]:
    """The losses and the sweep's metric over training; nothing where nothing was reported.

    Args:
        grid: The learning curves.
    """
    losses, metrics = (grid.of(grid.losses), grid.of([grid.metric])) if grid is not None else (None, None)
    return [
        *([loss_panels(losses)] if losses is not None else []),
        *([metric_panels(metrics)] if metrics is not None else []),
    ]


def plot_figure(data: FigureData) -> tuple[Figure, str]:
    """Draw one declared figure.

    Args:
        data: What it shows.

    Returns:
        The figure, and what its caption must add about the y axis.
    """
    figure = new_figure(7.0, 4.3)
    axes = figure.add_subplot()
    style_axes(axes)
    points = [point for line in data.lines for point in line.points if point.estimate]
    values = [value for point in points for value in point.seeds]
    scale = set_y_scale(axes, data.y, values)
    floor, roof = (0.0, 1.0) if is_share(data.y) else (-math.inf, math.inf)
    if scale == "log":
        floor = 0.4 * min(value for value in values if value > 0)
    place = _x_axis(axes, data)
    several = len(data.lines)
    for index, line in enumerate(data.lines):
        # in points, so that bars do not cover each other
        aside = (index - (several - 1) / 2) * min(5.0, 14.0 / several) if data.connected else 0.0
        _draw_line(axes, line, index, data.connected, [place(point.x) for point in line.points], (floor, roof), aside)
    if values:
        axes.set_ylim(*_limits(points, scale, floor, roof))
    else:
        axes.text(0.5, 0.5, "no completed trial", transform=axes.transAxes, ha="center", va="center", color="#777777")
    _draw_failed(axes, data, place)
    axes.set_xlabel(escape_mathtext(data.x), color=INK)
    axes.set_ylabel(escape_mathtext(data.y_label), color=INK)
    _legend(axes, [line.label for line in data.lines], "-" if data.connected else "")
    return figure, _axis_note(scale, any(_end(point, "low") < floor or _end(point, "high") > roof for point in points))


def _axis_note(scale: str, cut: bool) -> str:
    """What the caption must say of the y axis; ``cut`` where an interval reaches further than it is drawn."""
    note = " Bars without an end reach further." if cut else ""
    if scale == "symlog":
        return f" The y axis is logarithmic down to its smallest value, linear from there to zero.{note}"
    return f" The y axis is logarithmic.{note}" if scale == "log" else note


def _x_axis(axes: Axes, data: FigureData) -> Callable[[Any], float]:
    """Set the x axis up; returns the place of an x value on it."""
    if not data.numeric:
        axes.set_xticks(range(len(data.ticks)), [escape_mathtext(value_text(tick)) for tick in data.ticks])
        axes.set_xlim(-0.5, max(len(data.ticks), 1) - 0.5)
        longest = max((len(value_text(tick)) for tick in data.ticks), default=0)
        if longest * len(data.ticks) > 80:
            axes.tick_params(axis="x", rotation=30)
        places = places_of(data.ticks)
        return lambda x: float(places[value_key(x)])
    low, high = float(data.ticks[0]), float(data.ticks[-1])
    room = 0.06 * (high - low) or 0.5
    if low > 0 and high > SPAN_FOR_LOG * low:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low / (high / low) ** 0.06, high * (high / low) ** 0.06)
    else:
        axes.set_xlim(low - room, high + room)
    if len(data.ticks) <= 8:
        axes.set_xticks(list(data.ticks), [value_text(tick) for tick in data.ticks], minor=False)
    elif axes.get_xscale() == "log":
        axes.xaxis.set_major_formatter(FuncFormatter(tick_label))
    return float


def _limits(points: Iterable[FigurePoint], scale: str, floor: float, roof: float) -> tuple[float, float]:
    """Limits that show every seed and interval, as far as these lie between ``floor`` and ``roof``."""
    low = min(min(*point.seeds, _end(point, "low")) for point in points)
    high = max(max(*point.seeds, _end(point, "high")) for point in points)
    if scale == "log":
        return max(floor, 0.7 * low), 1.5 * high
    if scale == "symlog":
        return min(low, 0.0), 1.5 * high
    low, high = max(low, floor), min(high, roof)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return max(low - room, floor - 0.03), min(high + room, roof + 0.03)


def _end(point: FigurePoint, end: str) -> float:
    """The ``low`` or ``high`` end of the interval; the single seed's value where there is no interval."""
    value: float | None = getattr(point.estimate, end)
    return value if value is not None else point.seeds[0]


def _draw_line(
    axes: Axes,
    line: FigureLine,
    index: int,
    connected: bool,
    places: Sequence[float],
    bounds: tuple[float, float],
    aside: float,
) -> None:
    """One line: means, bars and, a little to their right, the single seeds. ``aside`` in points.

    A bar that reaches beyond ``bounds`` is cut there, and has no end.
    """
    floor, roof = bounds
    colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
    known = [(at, point, point.estimate) for at, point in zip(places, line.points, strict=True) if point.estimate]
    figure = axes.get_figure(root=True)
    here = offset_copy(axes.transData, figure, x=aside, units="points")
    beside = offset_copy(axes.transData, figure, x=aside + 5.5, units="points")
    xs, means = [at for at, _, _ in known], [over.mean for _, _, over in known]
    style = "-" if connected else ""
    axes.plot(
        xs, means, linestyle=style, marker=marker, color=colour, linewidth=1.8, markersize=6, zorder=3, transform=here
    )
    for at, point, over in known:
        if over.low is not None and over.high is not None:
            bar: dict[str, Any] = {"color": colour, "zorder": 2.5, "transform": here}
            axes.plot([at, at], [max(over.low, floor), min(over.high, roof)], linewidth=1.3, **bar)
            ends = [end for end in (over.low, over.high) if floor <= end <= roof]
            axes.plot([at] * len(ends), ends, "_", markersize=7, **bar)
        if len(point.seeds) > 1:
            dots: dict[str, Any] = {
                "color": colour,
                "alpha": 0.45,
                "markersize": 4,
                "markeredgecolor": "none",
                "zorder": 2,
            }
            axes.plot([at] * len(point.seeds), point.seeds, "o", transform=beside, **dots)


def _draw_failed(axes: Axes, data: FigureData, place: Callable[[Any], float]) -> None:
    """A cross at the bad end of the y axis for every point that lost seeds."""
    edge = 0.02 if data.better == "max" else 0.98
    for line in data.lines:
        for point in line.points:
            if point.failed:
                axes.plot(
                    place(point.x),
                    edge,
                    "X",
                    color=FAILED,
                    markersize=8,
                    clip_on=False,
                    transform=axes.get_xaxis_transform(),
                )


def _legend(axes: Axes, labels: Sequence[str], style: Literal["-", ""]) -> None:
    """A legend right of the axes, where it can hide nothing; none for a single unnamed line."""
    named = [(index, label) for index, label in enumerate(labels) if label]
    if not named:
        return
    handles = [
        Line2D(
            [],
            [],
            color=PALETTE[index % len(PALETTE)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle=style,
            linewidth=1.8,
            markersize=6,
        )
        for index, _ in named
    ]
    texts = [escape_mathtext(truncated(label, 36)) for _, label in named]
    axes.legend(
        handles, texts, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, borderaxespad=0.0
    )
