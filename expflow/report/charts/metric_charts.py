"""The declared figures as charts: means with intervals, and the values of single seeds."""

from __future__ import annotations

from collections.abc import Sequence

from expflow.config.identity import value_text
from expflow.metrics import metric_value
from expflow.report import formatting
from expflow.report.charts.chart import (
    COLOURS,
    SYMBOLS,
    Chart,
    Trace,
    ValueAxis,
    chart_layout,
    chart_text,
    hover_text,
    metric_axis,
    numbers,
)
from expflow.report.figure_data import FigureData, FigureLine, FigurePoint
from expflow.report.palette import FAILED


def metric_charts(figures: Sequence[FigureData]) -> list[Chart]:
    """A chart for each figure, in their order.

    Args:
        figures: Their data.
    """
    return [_metric_chart(figure) for figure in figures]


def _metric_chart(figure: FigureData) -> Chart:
    axis = ValueAxis(figure.x, figure.ticks)
    traces = [trace for place, line in enumerate(figure.lines) for trace in _line(figure, line, place, axis)]
    traces += _lost(figure, axis)
    values = [value for line in figure.lines for point in line.points for value in point.seeds]
    y = metric_axis(figure.y_label, figure.y, values)
    edge = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    layout = chart_layout(axis.layout, y, yaxis2=edge, showlegend=len(figure.lines) > 1)
    return Chart(figure.name, figure.title, figure.caption, figure.alt, tuple(traces), layout)


def _line(figure: FigureData, line: FigureLine, place: int, axis: ValueAxis) -> list[Trace]:
    """The means of a line with their bars, and its single seeds behind them."""
    known = [(point, point.estimate) for point in line.points if point.estimate is not None]
    colour, group = COLOURS[place % len(COLOURS)], f"line{place}"
    above = [0.0 if over.high is None else max(0.0, over.high - over.mean) for _, over in known]
    below = [0.0 if over.low is None else max(0.0, over.mean - over.low) for _, over in known]
    xs = [axis.place(point.x) for point, _ in known]
    means = {
        "type": "scatter",
        "mode": "lines+markers" if figure.connected else "markers",
        "name": chart_text(line.label or figure.y),
        "legendgroup": group,
        "x": xs,
        "y": numbers(over.mean for _, over in known),
        "error_y": {"type": "data", "array": numbers(above), "arrayminus": numbers(below), "thickness": 1.3},
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 8, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        "hoverinfo": "text",
        "hovertext": [_point_text(figure, line, point) for point, _ in known],
    }
    seeds = [
        (x, value) for x, (point, _) in zip(xs, known, strict=True) if len(point.seeds) > 1 for value in point.seeds
    ]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": group,
        "showlegend": False,
        "x": [x for x, _ in seeds],
        "y": numbers(value for _, value in seeds),
        "marker": {"color": colour, "size": 5, "opacity": 0.45},
        "hoverinfo": "skip",  # the mean, which they lie on, lists them
    }
    return [means, dots] if seeds else [means]


def _point_text(figure: FigureData, line: FigureLine, point: FigurePoint) -> str:
    if point.estimate is None:
        return ""
    value = metric_value(figure.y, point.estimate.mean)
    lines = [line.label, f"{figure.x} = {value_text(point.x)}"]
    lines.append(f"{figure.y} {value} {formatting.interval(figure.y, point.estimate)}".rstrip())
    shown = ", ".join(metric_value(figure.y, seed, unit=False) for seed in point.seeds[:12])
    lines.append(f"n = {point.estimate.n}: {shown}{', …' if len(point.seeds) > 12 else ''}")
    return hover_text(lines)


def _lost(figure: FigureData, axis: ValueAxis) -> list[Trace]:
    """A cross at the bad end of the y axis for every point that lost seeds."""
    lost = [(line, point) for line in figure.lines for point in line.points if point.failed]
    if not lost:
        return []
    texts = (f"{formatting.plural(point.failed, 'trial')} without a value" for _, point in lost)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "without a value",
            "yaxis": "y2",
            "x": [axis.place(point.x) for _, point in lost],
            "y": [0.02 if figure.better == "max" else 0.98] * len(lost),
            "marker": {"color": FAILED, "size": 9, "symbol": "x"},
            "hoverinfo": "text",
            "hovertext": [hover_text([line.label, text]) for (line, _), text in zip(lost, texts, strict=True)],
        }
    ]
