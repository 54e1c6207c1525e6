"""What networks cost, as figures: each layer of one, or the accuracy of several against their multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from expflow.architectures.table import Row, Table
from expflow.report.drawing import INK, PALETTE, SPAN_FOR_LOG, Drawing, canvas, dress, finished, literal, shortened

_NAMED_LAYERS = 40
"""With more bars than this their names could not be read."""
_LARGEST_BUBBLE = 1800.0
"""Area of the bubble with the most parameters, in square points."""


def layer_bars(table: Table) -> Drawing:
    """Memory, parameters and multiply-adds of every layer that has any, in three panels one above the other."""
    rows = [row for row in table.rows if row.params or row.macs or row.pool_ops]
    figure = canvas(min(max(6.0, 0.32 * len(rows) + 1.5), 14.0), 7.0)
    panels = figure.subplots(3, 1, sharex=True)
    _bars(panels[0], rows, [row.memory_kb for row in rows], "memory (KB)", PALETTE[0])
    _bars(panels[1], rows, [row.params for row in rows], "parameters", PALETTE[1])
    _bars(panels[2], rows, [row.macs for row in rows], "multiply-adds", PALETTE[2])
    named = len(rows) <= _NAMED_LAYERS
    if named:
        names = [literal(shortened(row.layer, 24)) for row in rows]
        panels[2].set_xticks(range(len(rows)), names, rotation=90, fontsize=8)
    else:
        panels[2].set_xlabel("layer, in the order in which they run", fontsize=10, color=INK)
    size = "x".join(map(str, table.input))
    title = f"{table.model} layer by layer, one image of {size}"
    figure.suptitle(literal(title), fontsize=11, color=INK)
    caption = f"{table.params:,} parameters, {table.macs:,} multiply-adds; memory is that of the outputs in fp32."
    alt = f"{title}: memory, parameters and multiply-adds of each layer as bars."
    return finished(figure, "layers", title, caption, alt)


def _bars(axes: Axes, rows: Sequence[Row], values: Sequence[float], label: str, colour: str) -> None:
    dress(axes)
    axes.bar(range(len(rows)), values, color=colour, width=0.8)
    axes.set_ylabel(label, fontsize=10, color=INK)
    axes.yaxis.set_major_formatter(FuncFormatter(_with_letter))
    axes.grid(visible=False, axis="x")


def _with_letter(value: float, _position: int | None = None) -> str:
    """A tick's label: ``1,500``, ``30M``, ``4.1B``."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:,g}"


@dataclass(frozen=True)
class Bubble:
    """One network: its multiply-adds, its parameters, and its top-1 accuracy as a share."""

    name: str
    macs: int
    params: int
    top1: float


def accuracy_by_cost(bubbles: Sequence[Bubble]) -> Drawing:
    """Top-1 accuracy against multiply-adds, a bubble for each network, its area in proportion to the parameters."""
    figure = canvas(7.5, 5.0)
    axes = figure.subplots()
    dress(axes)
    most = max(each.params for each in bubbles)
    for at, each in enumerate(sorted(bubbles, key=lambda one: -one.params)):  # small ones stay visible on large ones
        area = _LARGEST_BUBBLE * each.params / most
        axes.scatter(each.macs, each.top1, s=area, color=PALETTE[at % len(PALETTE)], alpha=0.6, edgecolors="white")
        axes.annotate(
            literal(shortened(each.name, 40)),
            (each.macs, each.top1),
            xytext=(0, (area / 3.1416) ** 0.5 + 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
        )
    costs = [each.macs for each in bubbles]
    if min(costs) > 0 and max(costs) > SPAN_FOR_LOG * min(costs):
        axes.set_xscale("log")
    axes.margins(0.18)
    axes.xaxis.set_major_formatter(FuncFormatter(_with_letter))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None, symbol=""))
    axes.set_xlabel("multiply-adds of one image", fontsize=10, color=INK)
    axes.set_ylabel("ImageNet top-1 %, as published by torchvision", fontsize=10, color=INK)
    title = "Accuracy against complexity"
    caption = f"Area: parameters; the largest bubble has {most:,}."
    axes.set_title(caption, fontsize=9, color=INK, loc="left")
    listed = ", ".join(f"{each.name} {100 * each.top1:.1f}" for each in bubbles)
    return finished(figure, "accuracy-by-cost", title, caption, f"{title}, top-1 %: {listed}.")
