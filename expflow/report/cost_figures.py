"""Figures of what networks cost: each layer of one, or the accuracy of several against their multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from expflow.architectures.layer_table import LayerTable
from expflow.report.canvas import INK, RenderedFigure, escape_mathtext, new_figure, render_figure, style_axes, truncated
from expflow.report.label_placement import PointLabel, place_labels
from expflow.report.palette import PALETTE, SPAN_FOR_LOG

_NAMED_LAYERS = 64
"""More names than this could not be read."""
_LARGEST_BUBBLE, _SMALLEST_BUBBLE = 1800.0, 12.0
"""Area of the bubble with the most parameters, and of one with next to none, in square points."""


def layer_bars(table: LayerTable, name: str | None = None) -> RenderedFigure:
    """Memory, parameters and multiply-adds of every layer that counts, in three panels one above the other.

    Layers that neither multiply nor pool are left out unless they have a hundredth of the parameters: norms would be as
    many as all others.

    Args:
        table: The network's layers.
        name: What the title calls it; by default as the table does.
    """
    rows = [row for row in table.rows if row.macs or row.pool_ops or row.params > table.params / 100]
    figure = new_figure(min(max(6.0, 0.3 * len(rows) + 1.5), 14.0), 7.5)
    panels = figure.subplots(3, 1, sharex=True)
    _bars(panels[0], [row.memory_kb for row in rows], "memory (KB)", PALETTE[0])
    _bars(panels[1], [row.params for row in rows], "parameters", PALETTE[1])
    _bars(panels[2], [row.macs for row in rows], "multiply-adds", PALETTE[2])
    named = range(0, len(rows), math.ceil(len(rows) / _NAMED_LAYERS) or 1)
    names = [escape_mathtext(truncated(rows[at].layer, 24)) for at in named]
    panels[2].set_xticks(named, names, rotation=90, fontsize=8 if len(names) <= _NAMED_LAYERS // 2 else 7)
    if len(named) < len(rows):
        panels[2].set_xlabel(f"one layer in {named.step} is named", fontsize=9, color=INK)
    figure.align_ylabels(panels)
    size = "x".join(map(str, table.input))
    title = f"{name or table.model} layer by layer, one image of {size}"
    figure.suptitle(escape_mathtext(title), fontsize=11, color=INK)
    caption = f"{table.params:,} parameters, {table.macs:,} multiply-adds; memory is that of the outputs in fp32."
    alt = f"{title}: memory, parameters and multiply-adds of each layer as bars."
    return render_figure(figure, "layers", title, caption, alt)


def _bars(axes: Axes, values: Sequence[float], label: str, colour: str) -> None:
    style_axes(axes)
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
    """One network.

    Attributes:
        name: What it is called.
        macs: Multiply-adds of one image.
        params: Number of parameters.
        top1: Top-1 accuracy, 0 to 1.
        data: The data set that the accuracy is of.
    """

    name: str
    macs: int
    params: int
    top1: float
    data: str = "ImageNet"


def accuracy_by_cost(bubbles: Sequence[Bubble]) -> RenderedFigure:
    """Top-1 accuracy against multiply-adds, a bubble for each network, its area in proportion to the parameters.

    Each data set has a panel of its own: accuracies on different images cannot be compared.

    Args:
        bubbles: The networks.
    """
    panels = list(dict.fromkeys(bubble.data for bubble in bubbles))
    figure = new_figure(8.5 if len(panels) == 1 else 6.5 * len(panels), 5.5)
    panel_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    placed = [
        _panel(axes, [bubble for bubble in bubbles if bubble.data == data])
        for axes, data in zip(panel_axes, panels, strict=True)
    ]
    figure.draw_without_rendering()  # sizes and scales settle, so that labels can be placed where there is room
    for axes, labels in zip(panel_axes, placed, strict=True):
        place_labels(axes, labels)
    title = "Accuracy against complexity"
    most = max(bubbles, key=lambda bubble: bubble.params)
    caption = f"Area: parameters; of all {most.name} has the most, {most.params:,}."
    listed = ", ".join(f"{bubble.name} {100 * bubble.top1:.1f}" for bubble in bubbles)
    return render_figure(figure, "accuracy-by-cost", title, caption, f"{title}, top-1 %: {listed}.")


def _panel(axes: Axes, bubbles: Sequence[Bubble]) -> list[PointLabel]:
    """The bubbles of one data set, and what is to be written beside each."""
    style_axes(axes)
    most, names = max(bubble.params for bubble in bubbles), _without_shared_keys([bubble.name for bubble in bubbles])
    labels = []
    axes.set_title(f"Area: parameters; the largest bubble has {most:,}", fontsize=9, color=INK, loc="left")
    for at, bubble in enumerate(sorted(bubbles, key=lambda bubble: -bubble.params)):  # small ones lie above large ones
        area = max(_LARGEST_BUBBLE * bubble.params / most, _SMALLEST_BUBBLE)
        colour = PALETTE[at % len(PALETTE)]
        axes.scatter(bubble.macs, bubble.top1, s=area, color=colour, alpha=0.6, edgecolors="white")
        radius = (area / math.pi) ** 0.5
        labels.append(PointLabel(truncated(names[bubble.name], 40), (bubble.macs, bubble.top1), radius))
    costs = [bubble.macs for bubble in bubbles]
    if min(costs) > 0 and max(costs) > SPAN_FOR_LOG * min(costs):
        axes.set_xscale("log")
    axes.margins(0.15, 0.18)
    axes.xaxis.set_major_formatter(FuncFormatter(_with_letter))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None, symbol=""))
    axes.set_xlabel("multiply-adds of one image", fontsize=10, color=INK)
    axes.set_ylabel(f"top-1 % on {escape_mathtext(bubbles[0].data)}", fontsize=10, color=INK)
    return labels


def _without_shared_keys(names: Sequence[str]) -> dict[str, str]:
    """``mlp,depth=8,hidden=64`` as ``mlp,depth=8`` where every mlp has 64 hidden units."""
    split = {name: name.split(",") for name in names}  # a list in a name is cut as well, and joined again
    short = {}
    for name, (base, *keys) in split.items():
        alike = [set(others[1:]) for others in split.values() if others[0] == base]
        shared = set.intersection(*alike) if len(alike) > 1 else set()
        short[name] = ",".join([base, *(key for key in keys if key not in shared)])
    return short
