"""The search as charts: what matters, the metric against each key, and all keys at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from expflow.ledger.header import Header
from expflow.metrics import metric_value
from expflow.report import formatting
from expflow.report.charts.chart import (
    COLOURS,
    MOST_POINTS,
    SEQUENCE,
    Chart,
    Trace,
    ValueAxis,
    chart_layout,
    chart_text,
    hover_text,
    is_wide,
    metric_axis,
    number_axis,
    numbers,
    rounded,
)
from expflow.report.charts.config_text import config_lines
from expflow.report.figure_data import ordered_values
from expflow.report.leaderboard import Leaderboard, LeaderboardRow
from expflow.report.parameter_importance import SearchImportance

MOST_SLICES = 12
"""Searched keys that have a chart of their own."""
_QUARTERS = ("best quarter", "second quarter", "third quarter", "last quarter")


def search_charts(board: Leaderboard, header: Header, importance: SearchImportance | None) -> list[Chart]:
    """Importance, slices and parallel coordinates; nothing where nothing was searched.

    Args:
        board: The leaderboard.
        header: The sweep's header.
        importance: What the differences come from; None where that cannot be told.
    """
    rows = [row for row in board.rows if row.estimate is not None]
    axes = {key: axis for key in board.keys if len((axis := _axis(rows, key, header)).ticks) > 1}
    if len(rows) < 2 or not axes:
        return []
    charts = [_importance(board, importance)] if importance is not None else []
    if len(axes) > 1:
        charts.append(_parallel(board, rows[:MOST_POINTS], axes, header))
    shown = list(axes)[:MOST_SLICES]
    charts += [_slice(board, rows, key, axes[key], place, header) for place, key in enumerate(shown)]
    return charts


def _axis(rows: Sequence[LeaderboardRow], key: str, header: Header) -> ValueAxis:
    return ValueAxis(key, ordered_values([row.values.get(key) for row in rows], key, header))


def _importance(board: Leaderboard, importance: SearchImportance) -> Chart:
    shares = importance.keys
    keys = [chart_text(share.key) for share in reversed(shares)]
    places = list(range(len(keys)))
    traces = []
    for number, (name, values) in enumerate(
        (("fANOVA", [share.fanova for share in shares]), ("PED-ANOVA", [share.ped_anova for share in shares]))
    ):
        texts = [hover_text([share.key, f"{name} {value:.2f}"]) for share, value in zip(shares, values, strict=True)]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "x": numbers(reversed(values)),
                "y": places,
                "marker": {"color": COLOURS[number]},
                "hoverinfo": "text",
                "hovertext": texts[::-1],
                "textposition": "none",
            }
        )
    rows = sum(row.estimate is not None for row in board.rows)
    taken = f"{rows} configs" if rows == importance.configs else f"{importance.configs} of {rows} configs"
    caption = (
        f"How much each searched key accounts for differences in {board.metric}, read from the means of {taken}. "
        "fANOVA: share of the variance over the whole space. PED-ANOVA: how much the best quarter differs from all. "
        "A model's reading of this search, no test; keys that only some configs have are left out."
    )
    words = "; ".join(f"{share.key} {share.fanova:.2f} and {share.ped_anova:.2f}" for share in shares)
    layout = chart_layout(
        number_axis("importance", rangemode="tozero"),
        number_axis("", tickvals=places, ticktext=keys),
        height=140 + 44 * len(keys),
        barmode="group",
    )
    alt = f"Importance by fANOVA and PED-ANOVA: {words}"
    return Chart("importance", "What the differences come from", caption, alt, tuple(traces), layout)


def _slice(
    board: Leaderboard, rows: Sequence[LeaderboardRow], key: str, axis: ValueAxis, place: int, header: Header
) -> Chart:
    known = [row for row in rows[:MOST_POINTS] if row.values.get(key) is not None]
    means = [row.estimate.mean for row in known if row.estimate is not None]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [axis.place(row.values[key]) for row in known],
        "y": numbers(means),
        "marker": {"color": COLOURS[0], "size": 8, "opacity": 0.6},
        "hoverinfo": "text",
        "hovertext": [hover_text(config_lines(row, board, header)) for row in known],
    }
    y = metric_axis(formatting.axis_label(board.metric, header), board.metric, means)
    layout = chart_layout(axis.layout, y, height=300, showlegend=False)
    title = f"{board.metric} against {key}, every config"
    return Chart(f"slice-{place}", title, _cut(rows), f"{title}: {len(known)} points.", (trace,), layout)


def _cut(rows: Sequence[LeaderboardRow]) -> str:
    return f"The best {MOST_POINTS:,} of {len(rows):,} configs." if len(rows) > MOST_POINTS else ""


def _parallel(board: Leaderboard, rows: Sequence[LeaderboardRow], axes: dict[str, ValueAxis], header: Header) -> Chart:
    """A line for each config over all searched keys and the metric; a trace for each quarter of the leaderboard."""
    means = [row.estimate.mean for row in rows if row.estimate is not None]
    scales = [_Scale.of_values(axis) for axis in axes.values()] + [_Scale.of_metric(board.metric, means)]
    traces: list[Trace] = []
    for quarter in range(len(_QUARTERS)):
        xs, ys, texts = list[float | None](), list[float | None](), list[str]()
        for row in rows[quarter * len(rows) // 4 : (quarter + 1) * len(rows) // 4]:
            text = hover_text(config_lines(row, board, header))
            heights = [*(scale.height(row.values.get(key)) for key, scale in zip(axes, scales, strict=False))]
            heights.append(scales[-1].height(row.estimate.mean if row.estimate is not None else None))
            xs += [*range(len(heights)), None]
            ys += [*heights, None]
            texts += [*[text] * len(heights), ""]
        traces.append(_quarter_trace(quarter, xs, ys, texts))
    titles = [*axes, board.metric]
    places = list(range(len(titles)))
    notes = [note for place, scale in enumerate(scales) for note in scale.annotations(place)]
    x = number_axis(
        "", tickvals=places, ticktext=[chart_text(title) for title in titles], range=[-0.3, len(titles) - 0.5]
    )
    y = number_axis("", visible=False, range=[-0.06, 1.06], fixedrange=True)
    caption = "A line for each config; a click on a quarter of the leaderboard hides it."
    return Chart(
        "parallel",
        "All searched keys at once",
        f"{caption} {_cut(board.rows)}".strip(),
        f"Parallel coordinates of {', '.join(titles)} for {len(rows)} configs.",
        tuple(traces[::-1]),
        chart_layout(x, y, height=440, annotations=notes),
    )


def _quarter_trace(quarter: int, xs: Sequence[float | None], ys: Sequence[float | None], texts: Sequence[str]) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": _QUARTERS[quarter],
        "x": xs,
        "y": ys,
        "line": {"color": SEQUENCE[3 - quarter], "width": 1.5},
        "marker": {"size": 5},
        "opacity": 0.8,
        "hoverinfo": "text",
        "hovertext": texts,
    }


class _Scale:
    """One of the upright axes: values between 0 and 1, and the texts beside it.

    Args:
        ends: The lowest and the highest place.
        log: Whether it is logarithmic.
        labels: Place and text of each tick.
        axis: Where a value lies before it is scaled; None for numbers.
    """

    def __init__(
        self, ends: tuple[float, float], log: bool, labels: Sequence[tuple[float, str]], axis: ValueAxis | None = None
    ) -> None:
        self._low, self._high, self._log, self._labels, self._axis = *ends, log, labels, axis

    @classmethod
    def of_values(cls, axis: ValueAxis) -> _Scale:
        """The scale of a searched key."""
        places = [axis.place(tick) for tick in axis.ticks]
        texts = axis.layout.get("ticktext")
        shown = (
            list(zip(places, texts, strict=True)) if texts else [(at, f"{at:.3g}") for at in (places[0], places[-1])]
        )
        return cls((min(places), max(places)), axis.numeric and is_wide(places), shown[:12], axis)

    @classmethod
    def of_metric(cls, metric: str, means: Sequence[float]) -> _Scale:
        """The scale of the metric."""
        low, high = min(means), max(means)
        return cls((low, high), False, [(value, chart_text(metric_value(metric, value))) for value in (low, high)])

    def height(self, value: Any) -> float | None:
        """Where a value lies, 0 to 1; None where there is none."""
        if value is None:
            return None
        return rounded(self._share(value if self._axis is None else self._axis.place(value)))

    def _share(self, place: float) -> float:
        low, high = self._low, self._high
        if low == high:
            return 0.5
        if self._log:
            return math.log(place / low) / math.log(high / low)
        return (place - low) / (high - low)

    def annotations(self, place: int) -> list[dict[str, Any]]:
        """The texts beside the axis."""
        return [
            {
                "x": place,
                "y": rounded(self._share(at)),
                "text": text,
                "showarrow": False,
                "xanchor": "left",
                "xshift": 6,
                "font": {"size": 11},
            }
            for at, text in self._labels
        ]
