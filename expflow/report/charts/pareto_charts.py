"""Several objectives as charts: each further objective against the first, and the hypervolume over time."""

from __future__ import annotations

from expflow.ledger.header import Header
from expflow.metrics import metric_value
from expflow.report import formatting
from expflow.report.charts.chart import (
    COLOURS,
    MOST_POINTS,
    Chart,
    Trace,
    chart_layout,
    hover_text,
    metric_axis,
    number_axis,
    numbers,
)
from expflow.report.charts.config_text import config_lines
from expflow.report.leaderboard import Leaderboard, LeaderboardRow
from expflow.report.pareto_section import FrontMember, ParetoFront


def pareto_charts(front: ParetoFront | None, board: Leaderboard, header: Header) -> list[Chart]:
    """The front and its growth; nothing where the sweep has one objective.

    Args:
        front: The Pareto front.
        board: The leaderboard.
        header: The sweep's header.
    """
    if front is None:
        return []
    charts = [_front_chart(front, board, header, metric, place) for place, metric in enumerate(front.metrics[1:], 1)]
    return [*charts, _growth_chart(front)] if len(front.growth) > 1 else charts


def _front_chart(front: ParetoFront, board: Leaderboard, header: Header, metric: str, place: int) -> Chart:
    first, members = front.metrics[0], {member.config for member in front.members}
    others = [row for row in board.rows if row.config not in members and row.estimate and metric in row.others]
    on_front = sorted(front.members, key=lambda member: member.objectives[metric].mean)
    x = [*(row.others[metric].mean for row in others), *(member.objectives[metric].mean for member in on_front)]
    y = [*(row.estimate.mean for row in others if row.estimate), *(m.objectives[first].mean for m in on_front)]
    title = f"{first} against {metric}"
    caption = "Ringed: the Pareto front" + (" of all objectives." if len(front.metrics) > 2 else ".")
    if len(others) > MOST_POINTS:
        caption += f" Of the configs that are not on it the best {MOST_POINTS:,} of {len(others):,} are drawn."
    words = "; ".join(_in_words(member, (first, metric)) for member in on_front[:12])
    layout = chart_layout(
        metric_axis(formatting.axis_label(metric, header), metric, x),
        metric_axis(formatting.axis_label(first, header), first, y),
        height=400,
    )
    rows = {row.config: row for row in board.rows}
    traces = (
        _points(others[:MOST_POINTS], metric, board, header),
        _edge(on_front, first, metric, [rows[member.config] for member in on_front], board, header),
    )
    return Chart(f"pareto-{place}", title, caption, f"{title}. On the front: {words}", traces, layout)


def _in_words(member: FrontMember, metrics: tuple[str, str]) -> str:
    values = (metric_value(metric, member.objectives[metric].mean) for metric in metrics)
    return f"{member.label}: {formatting.and_join(values)}"


def _lines(row: LeaderboardRow, metric: str, board: Leaderboard, header: Header) -> str:
    return hover_text([*config_lines(row, board, header), f"{metric} {metric_value(metric, row.others[metric].mean)}"])


def _points(rows: list[LeaderboardRow], metric: str, board: Leaderboard, header: Header) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "dominated",
        "x": numbers(row.others[metric].mean for row in rows),
        "y": numbers(row.estimate.mean for row in rows if row.estimate is not None),
        "marker": {"color": COLOURS[0], "size": 8, "opacity": 0.5},
        "hoverinfo": "text",
        "hovertext": [_lines(row, metric, board, header) for row in rows],
    }


def _edge(
    members: list[FrontMember],
    first: str,
    metric: str,
    rows: list[LeaderboardRow],
    board: Leaderboard,
    header: Header,
) -> Trace:
    """The front: with two objectives a line of steps, with more its points alone, whose order means nothing."""
    two = header.objectives[2:] == ()
    return {
        "type": "scatter",
        "mode": "lines+markers" if two else "markers",
        "name": "Pareto front",
        "x": numbers(member.objectives[metric].mean for member in members),
        "y": numbers(member.objectives[first].mean for member in members),
        "line": {"color": COLOURS[1], "width": 1.5, "shape": "hv" if _rises(header) else "vh"},
        "marker": {"color": COLOURS[1], "size": 11, "symbol": "circle-open", "line": {"width": 2}},
        "hoverinfo": "text",
        "hovertext": [_lines(row, metric, board, header) for row in rows],
    }


def _rises(header: Header) -> bool:
    """Whether a better second objective lies to the left, so that the front's steps go up behind each point."""
    return header.objectives[1]["mode"] == "min"


def _growth_chart(front: ParetoFront) -> Chart:
    growth = front.growth
    trace: Trace = {
        "type": "scatter",
        "mode": "lines",
        "x": [step.configs for step in growth],
        "y": numbers(step.hypervolume for step in growth),
        "line": {"color": COLOURS[0], "width": 2, "shape": "hv"},
        "hoverinfo": "text",
        "hovertext": [
            hover_text(
                [
                    f"{step.hypervolume:.4f} after {formatting.plural(step.configs, 'config')}",
                    f"{formatting.duration(step.seconds)} of training",
                ]
            )
            for step in growth
        ],
    }
    layout = chart_layout(
        number_axis("configs trained", rangemode="tozero"),
        number_axis("hypervolume", rangemode="tozero"),
        height=300,
        showlegend=False,
    )
    last = growth[-1]
    caption = f"At the end {last.hypervolume:.4f}, after {formatting.duration(last.seconds)} of training."
    return Chart("hypervolume", "Hypervolume over time", caption, f"Hypervolume. {caption}", (trace,), layout)
