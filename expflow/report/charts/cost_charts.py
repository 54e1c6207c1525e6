"""What results cost as charts: the metric against size and time with the Pareto front, and predicted against actual."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.report import formatting
from expflow.report.charts.chart import (
    COLOURS,
    MOST_POINTS,
    Chart,
    Trace,
    chart_layout,
    chart_text,
    hover_text,
    metric_axis,
    number_axis,
    numbers,
)
from expflow.report.charts.config_text import config_lines
from expflow.report.charts.cost_axis import COST_AXES, CostAxis, cost_points
from expflow.report.costs import quantity, range_text
from expflow.report.leaderboard import Leaderboard, LeaderboardRow
from expflow.sweep.forecast import ForecastComparison, ForecastRange, compare_forecast


def trade_off_charts(board: Leaderboard, header: Header) -> list[Chart]:
    """The metric against each cost that differs among the configs, with the Pareto front.

    Args:
        board: The leaderboard.
        header: The sweep's header.
    """
    measured = [row for row in board.rows if row.estimate is not None]
    charts = []
    for axis in COST_AXES:
        rows, costs = axis.known(measured)
        if rows:
            charts.append(_trade_off(board, header, rows, costs, axis))
    return charts


def pareto_front(costs: Sequence[float], values: Sequence[float], mode: str) -> list[int]:
    """The points that no other point beats: none is at most as expensive and better. The cheapest one first.

    Args:
        costs: The cost of each point; less is better.
        values: Its value.
        mode: ``max`` or ``min``: which value is better.
    """
    sign = 1.0 if mode == "max" else -1.0
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda at: (costs[at], -sign * values[at])):
        if not front or sign * values[place] > sign * values[front[-1]]:
            front.append(place)
    return front


def _trade_off(
    board: Leaderboard, header: Header, rows: Sequence[LeaderboardRow], costs: Sequence[float], axis: CostAxis
) -> Chart:
    means = [row.estimate.mean for row in rows if row.estimate is not None]
    front = pareto_front(costs, means, board.mode)
    texts = [
        hover_text([*config_lines(row, board, header), axis.line(cost)])
        for row, cost in zip(rows[:MOST_POINTS], costs, strict=False)
    ]
    points = cost_points(costs[:MOST_POINTS], means[:MOST_POINTS], texts, size=9, opacity=0.7)
    edge = {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": numbers(costs[place] for place in front),
        "y": numbers(means[place] for place in front),
        "line": {"color": COLOURS[1], "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
    }
    y = metric_axis(formatting.axis_label(board.metric, header), board.metric, means)
    labels = [rows[place].label for place in front]
    caption = f"On the front, cheapest first: {', '.join(labels[:12])}{', …' if len(labels) > 12 else ''}."
    caption += f" The best {MOST_POINTS:,} of {len(rows):,} configs are drawn." if len(rows) > MOST_POINTS else ""
    heading = f"{board.metric} against {axis.title}"
    layout = axis.layout(costs, y, height=340)
    traces = (edge, {**points, "name": "configs"})
    return Chart(f"trade-off-{axis.name}", heading, caption, f"{heading}. {caption}", traces, layout)


def forecast_chart(folder: Path, state: SweepState) -> list[Chart]:
    """What the sweep took, as a multiple of what `plan` expected; nothing where it was not asked.

    Args:
        folder: The results folder, where `plan` keeps its forecast.
        state: What its ledger adds up to.
    """
    known = [
        (cost, cost.predicted, cost.actual)
        for cost in compare_forecast(folder, state)
        if cost.predicted is not None and cost.predicted.middle > 0 and cost.actual
    ]
    if not known:
        return []
    known.reverse()
    places = list(range(len(known)))
    names = [chart_text(cost.what) for cost, _, _ in known]
    layout = chart_layout(
        number_axis("times the prediction", rangemode="tozero"),
        number_axis("", tickvals=places, ticktext=names),
        height=140 + 40 * len(known),
    )
    words = "; ".join(f"{cost.what} {actual / expected.middle:.2f} times" for cost, expected, actual in known)
    caption = "1 is what the last `expflow plan` expected; the bar is its range. The numbers are in the table below."
    return [
        Chart(
            "forecast",
            "Actual cost against the prediction",
            caption,
            f"Actual: {words}.",
            _forecast_traces(known),
            layout,
        )
    ]


def _forecast_traces(known: Sequence[tuple[ForecastComparison, ForecastRange, float]]) -> tuple[Trace, ...]:
    """A bar for each predicted range, and a point for what came, in multiples of the prediction."""
    places = list(range(len(known)))
    expected: Trace = {
        "type": "bar",
        "orientation": "h",
        "name": "predicted range",
        "base": numbers(expected.low / expected.middle for _, expected, _ in known),
        "x": numbers(max(0.004, (expected.high - expected.low) / expected.middle) for _, expected, _ in known),
        "y": places,
        "width": 0.35,
        "marker": {"color": COLOURS[5], "opacity": 0.6},
        "hoverinfo": "text",
        "hovertext": [
            hover_text([cost.what, f"predicted {range_text(expected, cost.unit)}"]) for cost, expected, _ in known
        ],
        "textposition": "none",
    }
    came: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": "actual",
        "x": numbers(actual / expected.middle for _, expected, actual in known),
        "y": places,
        "marker": {"color": COLOURS[1], "size": 12, "symbol": "diamond"},
        "hoverinfo": "text",
        "hovertext": [hover_text([cost.what, f"actual {quantity(actual, cost.unit)}"]) for cost, _, actual in known],
    }
    return expected, came
