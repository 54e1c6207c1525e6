"""The arms of a proof as a chart: every child, and the mean of each arm."""

from __future__ import annotations

from expflow.intervals import Estimate
from expflow.ledger.header import Header
from expflow.metrics import metric_value
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
from expflow.report.proof_section import Arm, ProofSection


def proof_charts(proof: ProofSection | None, header: Header) -> list[Chart]:
    """A point for each seed of an arm of one child, and for each child of the others; nothing without a proof.

    Args:
        proof: The proof.
        header: The sweep's header.
    """
    arms = [arm for arm in reversed(proof.arms) if arm.value is not None] if proof is not None else []
    if len(arms) < 2:
        return []
    points = [_points(arm, place, header) for place, arm in enumerate(arms)]
    means = _means(arms, header)
    values = [value for trace in (*points, means) for value in trace["x"]]
    axis = metric_axis(formatting.axis_label(header.metric, header), header.metric, values)
    names = [chart_text(arm.name) for arm in arms]
    y = number_axis("", tickvals=list(range(len(arms))), ticktext=names, range=[-0.6, len(arms) - 0.4])
    words = "; ".join(f"{arm.name} {metric_value(header.metric, arm.value.mean)}" for arm in arms[::-1] if arm.value)
    caption = "Small: seeds of an arm with one child, children of an arm with several. Large: means with intervals."
    layout = chart_layout(axis, y, height=130 + 60 * len(arms), showlegend=False)
    return [Chart("proof-arms", "The arms", caption, f"Arms: {words}", (*points, means), layout)]


def _points(arm: Arm, place: int, header: Header) -> Trace:
    if len(arm.children) == 1:
        seeds = arm.children[0].seeds
        shown = [(value, f"seed {seed}: {metric_value(header.metric, value)}") for seed, value in seeds.items()]
    else:
        shown = [
            (child.value, f"{child.label}: {metric_value(header.metric, child.value)}")
            for child in arm.children
            if child.value is not None
        ]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(value for value, _ in shown),
        "y": [place + (at % 5 - 2) * 0.05 for at in range(len(shown))],
        "marker": {"color": COLOURS[0], "size": 7, "opacity": 0.5},
        "hoverinfo": "text",
        "hovertext": [hover_text([arm.name, text]) for _, text in shown],
    }


def _means(arms: list[Arm], header: Header) -> Trace:
    known = [(place, arm.value) for place, arm in enumerate(arms) if arm.value is not None]
    ends = [(value.low if value.low is not None else value.mean, value.high or value.mean) for _, value in known]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(value.mean for _, value in known),
        "y": [place for place, _ in known],
        "marker": {"color": COLOURS[1], "size": 12, "symbol": "diamond"},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": numbers(high - value.mean for (_, value), (_, high) in zip(known, ends, strict=True)),
            "arrayminus": numbers(value.mean - low for (_, value), (low, _) in zip(known, ends, strict=True)),
            "color": COLOURS[1],
        },
        "hoverinfo": "text",
        "hovertext": [
            hover_text(
                [
                    arms[place].name,
                    f"{metric_value(header.metric, value.mean)} {formatting.interval(header.metric, value)}",
                ]
            )
            for place, value in known
        ],
    }


def _with_interval(value: Estimate, metric: str) -> str:
    return f"{metric_value(metric, value.mean)} {formatting.interval(metric, value)}".rstrip()
