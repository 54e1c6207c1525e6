"""Draws the filters of a network's first layer, or the templates of a linear classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from expflow.report.canvas import INK, RenderedFigure, escape_mathtext, new_figure, render_figure, truncated

if TYPE_CHECKING:
    from expflow.training.evaluation.network_inspection import FirstLayer

MOST_TILES = 96
"""Filters or templates that are drawn; more could not be told apart."""


def filter_figure(layer: FirstLayer, classes: Sequence[str], of: str) -> RenderedFigure:
    """Each filter or template of a first layer as a small picture.

    Colours where the layer sees three channels; otherwise one value for each weight (the mean over channels where
    there are several), blue below and red above zero. All share one scale, so that weak filters look weak.

    Args:
        layer: The layer's weights (filters, height, width, channels).
        classes: Names of the classes, which templates of classes are labelled with.
        of: Which network it is, for the title.
    """
    shown = layer.weights[:MOST_TILES]
    coloured = shown.shape[3] == 3
    columns = _columns(len(shown))
    rows = math.ceil(len(shown) / columns)
    names = list(classes[: len(shown)]) if layer.classes and len(classes) >= len(shown) else []
    size = 1.3 if names else min(1.1, 9.0 / columns)
    figure = new_figure(max(size * columns, 4.2) + 0.8, (size + 0.25 * bool(names)) * rows + 0.7)
    figure.set_layout_engine("compressed")  # square tiles leave no gaps between their rows
    _draw_tiles(figure, shown, (rows, columns), names)
    title = f"{_what(layer)} of {of}"
    figure.suptitle(f"{_what(layer)}\n{escape_mathtext(truncated(of, 60))}", fontsize=9.5, color=INK)
    caption = _filters_caption(layer, len(shown), coloured)
    return render_figure(figure, "filters", title, caption, f"{title} as small pictures.")


def _draw_tiles(figure: Figure, weights_nhwc: NDArray[np.float64], grid: tuple[int, int], names: Sequence[str]) -> None:
    """A tile for each filter in a ``grid`` of (rows, columns), and the colours' scale where there are no colours."""
    cells = figure.subplots(*grid, squeeze=False).ravel()
    most = float(np.abs(weights_nhwc).max()) or 1.0
    coloured = weights_nhwc.shape[3] == 3
    mappable: Any = None
    for at, axes in enumerate(cells):
        axes.set_axis_off()
        if at < len(weights_nhwc):
            mappable = _tile(axes, weights_nhwc[at], most, coloured)
            if names:
                axes.set_title(escape_mathtext(truncated(names[at], 14)), fontsize=8, color=INK, pad=2)
    if not coloured:
        bar = figure.colorbar(mappable, ax=list(cells), location="right", shrink=0.8, aspect=30, pad=0.02)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)


def _columns(count: int) -> int:
    """As many as make the grid about twice as wide as high, with a last row as full as can be."""
    most = max(1, min(count, 16, math.ceil(math.sqrt(2.5 * count))))
    if count <= 8:
        return max(1, count)
    return min(range(max(1, most - 3), most + 1), key=lambda columns: (-count % columns, -columns))


def _tile(axes: Axes, weights_hwc: NDArray[np.float64], most: float, coloured: bool) -> Any:
    if coloured:
        return axes.imshow(0.5 + weights_hwc / (2 * most), interpolation="nearest", vmin=0, vmax=1)
    return axes.imshow(weights_hwc.mean(2), cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")


def _what(layer: FirstLayer) -> str:
    count, height, width, _ = layer.weights.shape
    if layer.kind == "filters":
        return f"First layer: {count} filters of {height}x{width}"
    return "The template of each class" if layer.classes else f"First layer: the templates of {count} units"


def _filters_caption(layer: FirstLayer, shown: int, coloured: bool) -> str:
    channels = layer.weights.shape[3]
    scale = "0 is mid-grey" if coloured else "blue below, white at and red above zero"
    mean = f"; the mean over {channels} channels" if channels not in (1, 3) else ""
    left = f"; the first {shown} of {len(layer.weights)}" if shown < len(layer.weights) else ""
    return f"Weights of {layer.name}, {scale}, one scale for all{mean}{left}."
