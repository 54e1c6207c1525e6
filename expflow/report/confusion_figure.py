"""Draws the confusion matrix of a trial's predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from expflow.report.canvas import INK, RenderedFigure, escape_mathtext, new_figure, render_figure, truncated
from expflow.training.evaluation.confusion import confusion_counts
from expflow.training.evaluation.predictions import Predictions

MOST_NAMED = 24
"""Classes up to which a matrix names every class; of more it names some."""
MOST_COUNTED = 14
"""Classes up to which a matrix has room for its numbers."""


def frequent_mistakes(matrix: NDArray[np.int64], most: int = 5) -> list[tuple[int, int, int]]:
    """The most frequent mistakes, most frequent first; ties in the order of classes.

    Args:
        matrix: (classes, classes) counts of :func:`confusion_counts`.
        most: How many mistakes are listed.

    Returns:
        For each (label, predicted class, count).
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), matrix.shape[1]) for index in order]
    return [(label, taken, int(wrong[label, taken])) for label, taken in pairs if wrong[label, taken]]


def confusion_figure(predictions: Predictions, classes: Sequence[str], of: str) -> RenderedFigure:
    """The confusion matrix, coloured by the share of each row's class.

    Args:
        predictions: A trial's predictions on one split.
        classes: Names of the classes; a class without one is named by its number.
        of: Which trial it is, for the title.
    """
    matrix = confusion_counts(predictions)
    names = [classes[at] if at < len(classes) else str(at) for at in range(len(matrix))]
    side = min(max(0.52 * len(matrix), 3.2), 8.5)
    figure = new_figure(side + 2.4, side + 1.7)
    title = f"Confusion matrix of {of} on {predictions.split}"
    axes = figure.add_subplot()
    axes.set_title(escape_mathtext(truncated(title, 80)), fontsize=10, color=INK)
    _draw_matrix(figure, axes, matrix, names)
    hits, n = int(np.trace(matrix)), int(matrix.sum())
    mistakes = _mistakes_sentence(matrix, names)
    caption = f"{hits:,} of {n:,} images are right. Colour: share of the row's class, by its square root. {mistakes}"
    return render_figure(figure, "confusion", title, caption, f"{title}. {mistakes}")


def _draw_matrix(figure: Figure, axes: Axes, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    count = len(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    if count <= MOST_COUNTED:
        _numbers(axes, matrix, share)
    named = range(0, count, math.ceil(count / MOST_NAMED))
    texts = [escape_mathtext(truncated(names[at], 20)) for at in named]
    axes.set_xticks(named, texts, rotation=90 if max(map(len, texts)) > 2 else 0, fontsize=8, color=INK)
    axes.set_yticks(named, texts, fontsize=8, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", fontsize=10, color=INK)
    axes.set_ylabel("label", fontsize=10, color=INK)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=25, pad=0.02, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)


def _numbers(axes: Axes, matrix: NDArray[np.int64], share: NDArray[np.float64]) -> None:
    """The counts in their cells; zeros are left empty, so that mistakes stand out."""
    for row, column in zip(*np.nonzero(matrix), strict=True):
        dark = share[row, column] > 0.35
        axes.text(
            column,
            row,
            f"{matrix[row, column]:,}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else INK,
        )


def _mistakes_sentence(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    mistakes = [
        f"{names[label]} taken for {names[taken]} ({count})" for label, taken, count in frequent_mistakes(matrix)
    ]
    return f"Most frequent mistakes: {', '.join(mistakes)}." if mistakes else "There are no mistakes."
