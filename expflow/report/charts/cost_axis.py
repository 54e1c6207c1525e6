"""A metric against what configs or results cost: which costs there are, and the points over their axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from expflow.report import formatting
from expflow.report.charts.chart import COLOURS, Trace, chart_layout, is_wide, number_axis, numbers

Row = TypeVar("Row")


@dataclass(frozen=True)
class CostAxis:
    """A cost.

    Attributes:
        name: The attribute that rows have it under.
        title: What it is, in words.
        write: How an amount is written.
    """

    name: str
    title: str
    write: Callable[[float], str]

    def known(self, rows: Sequence[Row]) -> tuple[list[Row], list[float]]:
        """The rows whose cost is known, and their costs; no rows where all cost the same.

        Args:
            rows: Rows with an attribute of the cost's name.
        """
        known = [row for row in rows if getattr(row, self.name) is not None]
        costs = [float(getattr(row, self.name)) for row in known]
        return (known, costs) if len(set(costs)) > 1 else ([], [])

    def line(self, cost: float) -> str:
        """The cost as a line over a point.

        Args:
            cost: The amount.
        """
        return f"{self.title}: {self.write(cost)}"

    def layout(self, costs: Sequence[float], y: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The layout of a chart against this cost.

        Args:
            costs: What is drawn of it.
            y: The other axis.
            more: Further entries.
        """
        return chart_layout(number_axis(self.title, log=is_wide(costs)), y, **more)


COST_AXES = (
    CostAxis("macs", "multiply-adds of one sample", formatting.count),
    CostAxis("params", "parameters", formatting.count),
    CostAxis("seconds", "seconds of training", formatting.duration),
)


def cost_points(costs: Sequence[float], means: Sequence[float], texts: Sequence[str], **marker: Any) -> Trace:
    """A point for each config or result.

    Args:
        costs: What each costs.
        means: The metric of each.
        texts: What is shown over each.
        marker: Size and opacity.
    """
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(costs),
        "y": numbers(means),
        "marker": {"color": COLOURS[0], **marker},
        "hoverinfo": "text",
        "hovertext": list(texts),
    }
