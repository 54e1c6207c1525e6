"""Learning curves as charts: a chart for each metric, a line with a band for each config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expflow.metrics import metric_value
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
from expflow.report.curve_diagnosis import CurveDiagnosis
from expflow.report.learning_curves import ConfigCurves, CurveGrid, SeedCurve


def curve_charts(grid: CurveGrid | None, diagnoses: Sequence[CurveDiagnosis]) -> list[Chart]:
    """The losses and the sweep's metric over training; nothing where nothing was reported.

    Args:
        grid: The learning curves.
        diagnoses: What they show, which stands over the points of a config.
    """
    if grid is None:
        return []
    titles = {diagnosis.label: diagnosis.title for diagnosis in diagnoses}
    metrics = dict.fromkeys((*grid.losses, grid.metric))
    return [
        _curve_chart(grid, metric, titles)
        for metric in metrics
        if any(panel.has_points([metric]) for panel in grid.panels)
    ]


def _curve_chart(grid: CurveGrid, metric: str, titles: Mapping[str, str]) -> Chart:
    traces: list[Trace] = []
    values: list[float] = []
    for place, panel in enumerate(grid.panels):
        shown = _panel(panel, metric, place, grid.axis, titles.get(panel.label, ""))
        traces += shown
        values += [value for trace in shown for value in trace["y"]]
    title = grid.metric_label if metric == grid.metric else metric
    layout = chart_layout(number_axis(grid.axis), metric_axis(title, metric, values), height=420)
    name = "curves-" + "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in metric)
    ends = [
        f"{panel.label} ends at {metric_value(metric, panel.curves[metric].mean[-1])}"
        for panel in grid.panels
        if metric in panel.curves
    ]
    alt = f"{metric} over training. {'; '.join(ends)}"
    return Chart(name, f"{metric} over training", grid.caption, alt, tuple(traces), layout)


def _panel(panel: ConfigCurves, metric: str, place: int, axis: str, diagnosis: str) -> list[Trace]:
    colour, group = COLOURS[place % len(COLOURS)], f"config{place}"
    traces = []
    curve = panel.curves.get(metric)
    if curve is not None:
        traces += [*_band(curve, colour, group), _mean(curve, panel.label, colour, group, axis, diagnosis)]
    for xs, ys in panel.broken.get(metric, ()):
        if xs:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": chart_text(panel.label),
                    "legendgroup": group,
                    "showlegend": curve is None,
                    "x": numbers(xs),
                    "y": numbers(ys),
                    "line": {"color": colour, "width": 1.3, "dash": "dot"},
                    "hoverinfo": "text",
                    "hovertext": [
                        hover_text([panel.label, "a seed that failed, was stopped or still runs", _at(axis, x)])
                        for x in xs
                    ],
                }
            )
    return traces


def _band(curve: SeedCurve, colour: str, group: str) -> list[Trace]:
    if curve.low == curve.high:
        return []
    edge = {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": group,
        "showlegend": False,
        "hoverinfo": "skip",
        "line": {"color": colour, "width": 0},
        "x": numbers(curve.x),
    }
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    fill = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},.18)"}
    return [{**edge, "y": numbers(curve.low)}, {**edge, **fill, "y": numbers(curve.high)}]


def _mean(curve: SeedCurve, label: str, colour: str, group: str, axis: str, diagnosis: str) -> Trace:
    texts = []
    for x, mean, low, high in zip(curve.x, curve.mean, curve.low, curve.high, strict=True):
        value = f"{curve.metric} {metric_value(curve.metric, mean)}"
        if low != high:
            value += f" (seeds {metric_value(curve.metric, low, unit=False)} to {metric_value(curve.metric, high)})"
        texts.append(hover_text([label, _at(axis, x), value, diagnosis]))
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(curve.x) <= 50 else "lines",
        "name": chart_text(label),
        "legendgroup": group,
        "x": numbers(curve.x),
        "y": numbers(curve.mean),
        "line": {"color": colour, "width": 2},
        "marker": {"size": 4},
        "hoverinfo": "text",
        "hovertext": texts,
    }


def _at(axis: str, x: float) -> str:
    return f"{axis} {x:g}"
