"""Results side by side as charts: the metric of each, their differences to the first, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from expflow.metrics import is_share, metric_value
from expflow.report import formatting
from expflow.report.charts.chart import (
    COLOURS,
    Chart,
    Trace,
    chart_layout,
    chart_text,
    hover_text,
    metric_axis,
    number_axis,
    numbers,
)
from expflow.report.charts.cost_axis import COST_AXES, cost_points
from expflow.report.result_comparison import ComparedResult, ComparisonDocument, ResultDifference

_LONGEST_NAME = 32


def value_charts(comparison: ComparisonDocument) -> list[Chart]:
    """The metric of each result with its interval, and each difference to the first result with its own.

    Args:
        comparison: The comparison.
    """
    metric = comparison.metric
    known = [(result, result.metrics[metric]) for result in comparison.results if metric in result.metrics]
    names = [result.address for result, _ in known]
    ends = [(over.mean, over.low, over.high) for _, over in known]
    texts = [
        hover_text([result.address, result.label, f"{metric} {_estimate_text(metric, result)}", _seeds(result)])
        for result, _ in known
    ]
    values = _intervals_chart("values", f"{metric} of each result", metric, names, ends, texts)
    differences = [row for row in comparison.differences if row.metric == metric]
    if not differences:
        return [values]
    title = f"Difference in {metric} to {comparison.results[0].address}"
    bars = [(row.difference, row.low, row.high) for row in differences]
    shown = [hover_text([row.address, *_difference_lines(row)]) for row in differences]
    chart = _intervals_chart("differences", title, metric, [row.address for row in differences], bars, shown)
    zero = {
        "type": "line",
        "x0": 0,
        "x1": 0,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"width": 1, "color": "#888888"},
    }
    return [values, _with_shapes(chart, [zero])]


def _estimate_text(metric: str, result: ComparedResult) -> str:
    over = result.metrics[metric]
    return f"{metric_value(metric, over.mean)} {formatting.interval(metric, over)}".rstrip()


def _seeds(result: ComparedResult) -> str:
    return f"seeds {', '.join(map(str, result.seeds))}"


def _difference_lines(row: ResultDifference) -> list[str]:
    text = formatting.difference_value(row.metric, row.difference)
    if row.low is not None and row.high is not None:
        low, high = (formatting.difference_value(row.metric, end, unit=False) for end in (row.low, row.high))
        text += f" [{low}, {high}]"
    p = "" if row.p_holm is None else f"p (Holm) {formatting.p_value(row.p_holm)}"
    return [text, p, f"{'paired' if row.paired else 'not paired'}, n = {row.n}"]


def _intervals_chart(
    name: str,
    title: str,
    metric: str,
    names: Sequence[str],
    ends: Sequence[tuple[float, float | None, float | None]],
    texts: Sequence[str],
) -> Chart:
    """A row for each name, the first one on top, with a point and its interval."""
    places = list(range(len(names), 0, -1))
    trace: Trace = {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(mean for mean, _, _ in ends),
        "y": places,
        "error_x": {
            "type": "data",
            "array": numbers(0.0 if high is None else max(0.0, high - mean) for mean, _, high in ends),
            "arrayminus": numbers(0.0 if low is None else max(0.0, mean - low) for mean, low, _ in ends),
        },
        "marker": {"color": COLOURS[0], "size": 10},
        "hoverinfo": "text",
        "hovertext": list(texts),
    }
    shown = [chart_text(text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…") for text in names]
    percent: dict[str, Any] = {"tickformat": "~%"} if is_share(metric) else {}
    x = number_axis(metric, **percent)
    y = number_axis("", tickvals=places, ticktext=shown, range=[0.4, len(names) + 0.6])
    layout = chart_layout(x, y, height=130 + 36 * len(names), showlegend=False)
    caption = "Bars: 95 % intervals over seeds; none where there are too few."
    return Chart(name, title, caption, f"{title}: {len(names)} rows.", (trace,), layout)


def _with_shapes(chart: Chart, shapes: list[dict[str, object]]) -> Chart:
    return Chart(chart.name, chart.title, chart.caption, chart.alt, chart.traces, {**chart.layout, "shapes": shapes})


def result_cost_charts(comparison: ComparisonDocument) -> list[Chart]:
    """The metric against each cost that differs among the results.

    Args:
        comparison: The comparison.
    """
    charts, metric = [], comparison.metric
    measured = [result for result in comparison.results if metric in result.metrics]
    for axis in COST_AXES:
        results, costs = axis.known(measured)
        if not results:
            continue
        means = [result.metrics[metric].mean for result in results]
        texts = [
            hover_text([result.address, f"{metric} {_estimate_text(metric, result)}", axis.line(cost)])
            for result, cost in zip(results, costs, strict=True)
        ]
        points = cost_points(costs, means, texts, size=10)
        layout = axis.layout(costs, metric_axis(metric, metric, means), height=320, showlegend=False)
        heading = f"{metric} against {axis.title}"
        charts.append(Chart(f"cost-{axis.name}", heading, "", f"{heading}: {len(results)} results.", (points,), layout))
    return charts
