"""What all charts share: their form, colours, axes, and texts that stay texts."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expflow.config.identity import value_text
from expflow.config.space import same_value
from expflow.metrics import is_share
from expflow.report.palette import PALETTE, SPAN_FOR_LOG
from expflow.text import escape_line

MOST_POINTS = 2000
"""Points (or bars) of a chart: more of them make a browser slow, and nobody sees them apart."""
_LONGEST_LINE = 90
_BLACK, _GREY = "#000000", "#888888"
COLOURS = tuple(_GREY if colour == _BLACK else colour for colour in PALETTE)
"""Colours of lines that are seen on a white and on a black page."""
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
SEQUENCE = ("#8b5fbf", "#3b78b8", "#21918c", "#4fae55")
"""Colours in an order: of quarters, the last one first."""
_GRID = "rgba(128,128,128,.25)"
_NO_COLOUR = "rgba(0,0,0,0)"

Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """A figure of plotly.js.

    Attributes:
        name: Its name in the page: of ASCII letters, digits, ``-`` and ``_``.
        title: Its title.
        caption: What a reader must know.
        alt: What it shows, in words.
        traces: What is drawn, as plotly.js takes it.
        layout: Axes and legend, likewise.
    """

    name: str
    title: str
    caption: str
    alt: str
    traces: tuple[Trace, ...]
    layout: Mapping[str, Any]


def chart_text(text: str) -> str:
    """A text as plotly.js shows it literally: it reads some tags and entities in texts.

    Args:
        text: A text of the user's.
    """
    return html.escape(escape_line(text), quote=False)


def hover_text(lines: Iterable[str]) -> str:
    """The lines that are shown over a point.

    Args:
        lines: Texts of the user's; a long one is cut.
    """
    cut = (line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…" for line in lines)
    return "<br>".join(chart_text(line) for line in cut if line)


def rounded(value: float) -> float:
    """A number as a chart holds it: to six digits.

    Args:
        value: The number.
    """
    return float(f"{value:.6g}")


def numbers(values: Iterable[float]) -> list[float]:
    """Numbers as a chart holds them.

    Args:
        values: The numbers.
    """
    return [rounded(value) for value in values]


def chart_layout(x: Mapping[str, Any], y: Mapping[str, Any], *, height: int = 380, **more: Any) -> dict[str, Any]:
    """The layout of a chart with two axes.

    Args:
        x: The x axis.
        y: The y axis.
        height: In pixels; the width is the page's.
        more: Further entries.
    """
    return {
        "height": height,
        "margin": {"l": 64, "r": 12, "t": 12, "b": 48},
        "paper_bgcolor": _NO_COLOUR,
        "plot_bgcolor": _NO_COLOUR,
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#1d1f23", "bordercolor": _GREY, "font": {"color": "#ffffff"}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": dict(x),
        "yaxis": dict(y),
        **more,
    }


def number_axis(title: str, *, log: bool = False, **more: Any) -> dict[str, Any]:
    """An axis of numbers.

    Args:
        title: Its title.
        log: Whether it is logarithmic.
        more: Further entries.
    """
    return {
        "title": {"text": chart_text(title)},
        "type": "log" if log else "linear",
        "gridcolor": _GRID,
        "zeroline": False,
        "automargin": True,
        **more,
    }


def metric_axis(title: str, metric: str, values: Sequence[float], **more: Any) -> dict[str, Any]:
    """The axis of a metric: percent for shares, logarithmic where its values span more than a factor of 30.

    Args:
        title: Its title.
        metric: The metric.
        values: What is drawn of it.
        more: Further entries.
    """
    if is_share(metric):
        more = {"tickformat": "~%", **more}
    log = not is_share(metric) and is_wide(values)
    if log and max(values) > 100 * min(values):
        more = {"dtick": 1, **more}
    return number_axis(title, log=log, **more)


def is_wide(values: Sequence[float]) -> bool:
    """Whether values are shown on a logarithmic axis.

    Args:
        values: The values.
    """
    return bool(values) and min(values) > 0 and max(values) > SPAN_FOR_LOG * min(values)


class ValueAxis:
    """An axis of one key's values: numbers where all are, else places with names.

    Args:
        title: Its title.
        ticks: The key's values in their order.
    """

    def __init__(self, title: str, ticks: Sequence[Any]) -> None:
        self.title, self.ticks = title, list(ticks)
        self.numeric = bool(ticks) and all(_is_number(tick) for tick in ticks)

    def place(self, value: Any) -> float:
        """Where a value lies.

        Args:
            value: One of the ticks.
        """
        if self.numeric:
            return rounded(float(value))
        return float(next(at for at, tick in enumerate(self.ticks) if same_value(tick, value)))

    @property
    def layout(self) -> dict[str, Any]:
        """The axis, as plotly.js takes it."""
        if not self.numeric:
            names = [chart_text(_short(value_text(tick))) for tick in self.ticks]
            places = list(range(len(names)))
            room = [-0.5, max(len(names), 1) - 0.5]
            return number_axis(self.title, tickvals=places, ticktext=names, range=room)
        log = is_wide([float(tick) for tick in self.ticks])
        if len(self.ticks) > 8:
            return number_axis(self.title, log=log)
        names = [chart_text(value_text(tick)) for tick in self.ticks]
        return number_axis(self.title, log=log, tickvals=[float(tick) for tick in self.ticks], ticktext=names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:23]}…"
