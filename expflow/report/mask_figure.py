"""Draws what a segmentation got right and wrong: image, truth and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from expflow.data.kinds.mask import painted, palette
from expflow.report.canvas import (
    INK,
    RenderedFigure,
    escape_mathtext,
    new_figure,
    render_figure,
    truncated,
    write_title,
)
from expflow.training.evaluation.mask_cases import MaskCase

CASES = 6
"""Images in a row of best or worst cases."""

_MOST_NAMED = 12
_PARTS = ("image", "truth", "predicted")


def mask_figure(
    best: Sequence[MaskCase], worst: Sequence[MaskCase], classes: Sequence[str], split: str, of: str
) -> RenderedFigure:
    """The images with the highest and the lowest IoU, each above its true and its predicted mask.

    Args:
        best: Highest IoU first.
        worst: Lowest IoU first.
        classes: Names of the classes.
        split: Which split they are of.
        of: Which trial it is, for the title.
    """
    groups = [(name, cases) for name, cases in (("highest IoU", best), ("lowest IoU", worst)) if cases]
    columns = max(len(cases) for _, cases in groups)
    figure = new_figure(1.25 * columns + 0.9, 3.9 * len(groups) + 1.0)
    grid = figure.subplots(len(_PARTS) * len(groups), columns, squeeze=False)
    for number, (name, cases) in enumerate(groups):
        for part, kind in enumerate(_PARTS):
            line = grid[len(_PARTS) * number + part]
            for at, axes in enumerate(line):
                _empty(axes)
                if at < len(cases):
                    axes.imshow(_drawn(cases[at], kind, len(classes)))
                    if part == len(_PARTS) - 1:
                        axes.set_xlabel(f"{cases[at].iou:.3f}", fontsize=7.5, color=INK)
            line[0].set_ylabel(f"{name}\n{kind}" if part == 0 else kind, fontsize=8, color=INK)
    title = f"Best and worst masks of {of} on {split}"
    write_title(figure, title)
    _legend(figure, classes)
    caption = (
        "By the mean IoU over the classes of each image, which is written below it; the metric miou is over all pixels"
        " of the split. White: void, which counts for nothing."
    )
    numbers = ", ".join(f"{case.iou:.3f}" for case in worst)
    return render_figure(figure, "worst", title, caption, f"{title}: the lowest IoUs are {numbers}.")


def _empty(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _drawn(case: MaskCase, kind: str, classes: int) -> NDArray[np.uint8]:
    grey = case.image.mean(2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    picture = case.image if case.image.shape[2] == 3 else grey
    if kind == "image":
        return picture
    return painted(grey, case.true if kind == "truth" else case.predicted, classes)


def _legend(figure: Figure, classes: Sequence[str]) -> None:
    colours = palette(len(classes)) / 255
    shown = list(zip(classes, colours, strict=True))[1 : 1 + _MOST_NAMED]
    patches = [Patch(color=tuple(colour), label=escape_mathtext(truncated(name, 16))) for name, colour in shown]
    figure.legend(handles=patches, loc="lower center", ncols=6, fontsize=7.5, frameon=False)
