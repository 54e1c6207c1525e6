"""What networks cost, as figures: each layer of one, or the accuracy of several against their multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from expflow.architectures.table import Table
from expflow.report.drawing import INK, PALETTE, SPAN_FOR_LOG, Drawing, canvas, dress, finished, literal, shortened
from expflow.report.labels import Labelled, label_apart

_NAMED_LAYERS = 64
"""More names than this could not be read."""
_LARGEST_BUBBLE, _SMALLEST_BUBBLE = 1800.0, 12.0
"""Area of the bubble with the most parameters, and of one with next to none, in square points."""


def layer_bars(table: Table, name: str | None = None) -> Drawing:
    """Memory, parameters and multiply-adds of every layer that counts, in three panels one above the other.

    ``name`` stands in the title, by default the table's. Layers that neither multiply nor pool are left out unless they
    have a hundredth of the parameters: norms would be as many as all others.
    """
    rows = [row for row in table.rows if row.macs or row.pool_ops or row.params > table.params / 100]
    figure = canvas(min(max(6.0, 0.3 * len(rows) + 1.5), 14.0), 7.5)
    panels = figure.subplots(3, 1, sharex=True)
    _bars(panels[0], [row.memory_kb for row in rows], "memory (KB)", PALETTE[0])
    _bars(panels[1], [row.params for row in rows], "parameters", PALETTE[1])
    _bars(panels[2], [row.macs for row in rows], "multiply-adds", PALETTE[2])
    named = range(0, len(rows), math.ceil(len(rows) / _NAMED_LAYERS) or 1)
    names = [literal(shortened(rows[at].layer, 24)) for at in named]
    panels[2].set_xticks(named, names, rotation=90, fontsize=8 if len(names) <= _NAMED_LAYERS // 2 else 7)
    if len(named) < len(rows):
        panels[2].set_xlabel(f"one layer in {named.step} is named", fontsize=9, color=INK)
    figure.align_ylabels(panels)
    size = "x".join(map(str, table.input))
    title = f"{name or table.model} layer by layer, one image of {size}"
    figure.suptitle(literal(title), fontsize=11, color=INK)
    caption = f"{table.params:,} parameters, {table.macs:,} multiply-adds; memory is that of the outputs in fp32."
    alt = f"{title}: memory, parameters and multiply-adds of each layer as bars."
    return finished(figure, "layers", title, caption, alt)


def _bars(axes: Axes, values: Sequence[float], label: str, colour: str) -> None:
    dress(axes)
    axes.margins(x=0.01)
    axes.bar(range(len(values)), values, color=colour, width=0.8)
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
    """One network: its multiply-adds, its parameters, and its top-1 accuracy as a share on ``data``."""

    name: str
    macs: int
    params: int
    top1: float
    data: str = "ImageNet"


def accuracy_by_cost(bubbles: Sequence[Bubble]) -> Drawing:
    """Top-1 accuracy against multiply-adds, a bubble for each network, its area in proportion to the parameters.

    Each data set has a panel of its own: accuracies on different images say nothing about each other.
    """
    panels = list(dict.fromkeys(each.data for each in bubbles))
    figure = canvas(8.5 if len(panels) == 1 else 6.5 * len(panels), 5.5)
    each_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    placed = [
        _panel(axes, [one for one in bubbles if one.data == data]) for axes, data in zip(each_axes, panels, strict=True)
    ]
    figure.draw_without_rendering()  # sizes and scales settle, and labels can be told where there is room
    for axes, inside in zip(each_axes, placed, strict=True):
        label_apart(axes, inside)
    title = "Accuracy against complexity"
    most = max(bubbles, key=lambda each: each.params)
    caption = f"Area: parameters; of all {most.name} has the most, {most.params:,}."
    listed = ", ".join(f"{each.name} {100 * each.top1:.1f}" for each in bubbles)
    return finished(figure, "accuracy-by-cost", title, caption, f"{title}, top-1 %: {listed}.")


def _panel(axes: Axes, bubbles: Sequence[Bubble]) -> list[Labelled]:
    """The bubbles of one data set, and what is to be written beside each."""
    dress(axes)
    found, most, names = [], max(each.params for each in bubbles), _short([each.name for each in bubbles])
    axes.set_title(f"Area: parameters; the largest bubble has {most:,}", fontsize=9, color=INK, loc="left")
    for at, each in enumerate(sorted(bubbles, key=lambda one: -one.params)):  # small ones stay visible on large ones
        area = max(_LARGEST_BUBBLE * each.params / most, _SMALLEST_BUBBLE)
        axes.scatter(each.macs, each.top1, s=area, color=PALETTE[at % len(PALETTE)], alpha=0.6, edgecolors="white")
        found.append(Labelled(shortened(names[each.name], 40), (each.macs, each.top1), (area / math.pi) ** 0.5))
    costs = [each.macs for each in bubbles]
    if min(costs) > 0 and max(costs) > SPAN_FOR_LOG * min(costs):
        axes.set_xscale("log")
    axes.margins(0.15, 0.18)
    axes.xaxis.set_major_formatter(FuncFormatter(_with_letter))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None, symbol=""))
    axes.set_xlabel("multiply-adds of one image", fontsize=10, color=INK)
    axes.set_ylabel(f"top-1 % on {literal(bubbles[0].data)}", fontsize=10, color=INK)
    return found


def _short(names: Sequence[str]) -> dict[str, str]:
    """``mlp,depth=8,hidden=64`` as ``mlp,depth=8`` where every mlp has 64 hidden units."""
    split = {name: name.split(",") for name in names}  # a list in a name is cut as well, and joined again
    short = {}
    for name, (base, *keys) in split.items():
        alike = [set(others[1:]) for others in split.values() if others[0] == base]
        shared = set.intersection(*alike) if len(alike) > 1 else set()
        short[name] = ",".join([base, *(key for key in keys if key not in shared)])
    return short
