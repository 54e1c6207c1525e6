"""Draws how much of the image one output of each layer sees: the growth of the receptive field."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from expflow.architectures.layer_table import LayerRow, LayerTable
from expflow.errors import UserError
from expflow.report.canvas import INK, RenderedFigure, escape_mathtext, new_figure, render_figure, style_axes, truncated

_NAMED_LAYERS = 64
"""More names than this could not be read."""
_MOST_SQUARES = 12
"""Nested squares that can be told apart."""
_COLOURS = "viridis"
Colour = tuple[float, float, float, float]


def receptive_figure(table: LayerTable, name: str | None = None) -> RenderedFigure:
    """The receptive fields of a network's layers: as squares in the image, and as a bar for each layer.

    Args:
        table: The network's layers.
        name: What the title calls it; by default as the table does.

    Raises:
        UserError: No layer has a receptive field that can be told.
    """
    rows = [row for row in table.rows if row.field is not None and (row.macs or row.pool_ops)]
    if not rows:
        raise UserError(
            f"{name or table.model} has no layer whose receptive field can be told: none moves a window over the image"
            " or a map of it"
        )
    colours = [matplotlib.colormaps[_COLOURS](0.92 * at / max(1, len(rows) - 1)) for at in range(len(rows))]
    bars_width = min(max(4.5, 0.27 * len(rows) + 1.2), 11.5)
    figure = new_figure(4.2 + bars_width, 4.8)
    squares, bars = figure.subplots(1, 2, width_ratios=[4.2, bars_width])
    _draw_squares(squares, rows, colours, table.input[1:])
    _draw_bars(bars, rows, colours, table.input[1:])
    size = "x".join(map(str, table.input[1:]))
    if mixing := _mixing(table):
        bars.set_title(f"then {len(mixing)} layers that mix all positions", fontsize=9, color=INK)
    title = f"What one output of {name or table.model} sees, layer by layer, of an image of {size}"
    figure.suptitle(escape_mathtext(title), fontsize=11, color=INK)
    return render_figure(figure, "receptive", title, _caption(table, rows), f"{title}: squares in the image, and bars.")


def _caption(table: LayerTable, rows: Sequence[LayerRow]) -> str:
    last = rows[-1]
    text = f"{last.layer} sees {_size(last.field)} pixels"
    covering = next((row for row in rows if _covers(row, table.input[1:])), None)
    if covering is not None:
        text += f"; from {covering.layer} on an output sees as much as the whole image"
    if mixing := _mixing(table):
        text += f"; {mixing[0].layer} and {len(mixing) - 1} more mix all positions, and have no window"
    return f"{text}. Fields reach over the border into the padding; squares are of an output in the middle."


def _mixing(table: LayerTable) -> list[LayerRow]:
    """Layers after attention and its like, whose outputs may see any pixel."""
    return [row for row in table.rows if row.field is None and row.macs]


def _covers(row: LayerRow, image: Sequence[int]) -> bool:
    return row.field is not None and all(field >= side for field, side in zip(row.field, image, strict=True))


def _size(pair: Sequence[int] | None) -> str:
    return "x".join(map(str, pair or ()))


def _draw_squares(axes: Axes, rows: Sequence[LayerRow], colours: Sequence[Colour], image: Sequence[int]) -> None:
    """The field of an output in the middle, of layers at which it grew, and the image's frame."""
    grown: dict[tuple[int, int], int] = {}
    for at, row in enumerate(rows):
        if row.field is not None:
            grown.setdefault(row.field, at)
    shown = sorted(grown.items(), key=lambda item: item[0])
    if len(shown) > _MOST_SQUARES:
        shown = [shown[round(at * (len(shown) - 1) / (_MOST_SQUARES - 1))] for at in range(_MOST_SQUARES)]
    height, width = image
    axes.add_patch(Rectangle((0, 0), width, height, facecolor="#EEEEEE", edgecolor="#888888", linewidth=1))
    for field, at in reversed(shown):
        corner = ((width - field[1]) / 2, (height - field[0]) / 2)
        axes.add_patch(Rectangle(corner, field[1], field[0], fill=False, edgecolor=colours[at], linewidth=1.8))
    reach = max(max(height, width), min(max(max(field) for field in grown), 2 * max(height, width))) * 0.54
    axes.set_xlim(width / 2 - reach, width / 2 + reach)
    axes.set_ylim(height / 2 + reach, height / 2 - reach)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title("grey: the image", fontsize=9, color=INK)


def _draw_bars(axes: Axes, rows: Sequence[LayerRow], colours: Sequence[Colour], image: Sequence[int]) -> None:
    style_axes(axes)
    axes.grid(visible=False, axis="x")
    axes.bar(range(len(rows)), [max(row.field or (0, 0)) for row in rows], color=colours, width=0.8)
    axes.axhline(max(image), color="#888888", linewidth=1, linestyle="--")
    axes.set_xlim(-0.6, max(len(rows), 8) - 0.4)
    axes.annotate(
        "side of the image", (-0.6, max(image)), xytext=(4, 2), textcoords="offset points", fontsize=8, color=INK
    )
    axes.set_ylabel("side of the receptive field (pixels)", fontsize=10, color=INK)
    named = range(0, len(rows), math.ceil(len(rows) / _NAMED_LAYERS) or 1)
    names = [escape_mathtext(truncated(rows[at].layer, 24)) for at in named]
    axes.set_xticks(named, names, rotation=90, fontsize=8 if len(names) <= _NAMED_LAYERS // 2 else 7)
