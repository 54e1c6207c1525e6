"""A first look inside a finished trial: what its first layer looks for, what it confuses, where it goes wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from numpy.typing import NDArray

from expflow.report.drawing import FAILED, INK, Drawing, canvas, finished, literal, shortened
from expflow.training.protocol.predictions import Predictions

if TYPE_CHECKING:
    from expflow.training.protocol.inside import FirstLayer

MOST_TILES = 96
"""Filters or templates that are drawn; more could not be told apart."""
MOST_NAMED = 24
"""Classes that a matrix names each; of more it names some."""
MOST_COUNTED = 14
"""Classes up to which a matrix has room for its numbers."""
CASES = 8
"""Images in a row of best or worst cases."""

Image = NDArray[np.uint8]


# filters and templates


def filters(layer: FirstLayer, classes: Sequence[str], of: str) -> Drawing:
    """Each filter or template of ``layer`` as a small picture.

    Colours where the layer sees three channels; otherwise one value for each weight (the mean over channels where
    there are several), blue below and red above zero. All share one scale, so that weak filters look weak.
    """
    shown = layer.weights[:MOST_TILES]
    coloured = shown.shape[3] == 3
    columns = _columns(len(shown))
    rows = math.ceil(len(shown) / columns)
    named = layer.classes and len(classes) >= len(shown)
    size = 1.3 if named else min(1.1, 9.0 / columns)
    figure = canvas(max(size * columns, 4.2) + 0.8, (size + 0.25 * named) * rows + 0.7)
    figure.set_layout_engine("compressed")  # square tiles leave no gaps between their rows
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    most = float(np.abs(shown).max()) or 1.0
    mappable: Any = None
    for at, each in enumerate(axes):
        each.set_axis_off()
        if at < len(shown):
            mappable = _tile(each, shown[at], most, coloured)
            if named:
                each.set_title(literal(shortened(classes[at], 14)), fontsize=8, color=INK, pad=2)
    if not coloured:
        bar = figure.colorbar(mappable, ax=list(axes), location="right", shrink=0.8, aspect=30, pad=0.02)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)
    title = f"{_what(layer)} of {of}"
    figure.suptitle(f"{_what(layer)}\n{literal(shortened(of, 60))}", fontsize=9.5, color=INK)
    return finished(
        figure, "filters", title, _filters_caption(layer, len(shown), coloured), f"{title} as small pictures."
    )


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


# confusion matrix


def confusion(predictions: Predictions) -> NDArray[np.int64]:
    """(classes, classes) how many samples of each class (row) were taken for each (column)."""
    matrix = np.zeros((predictions.classes, predictions.classes), dtype=np.int64)
    np.add.at(matrix, (predictions.labels, predictions.top[:, 0]), 1)
    return matrix


def confusions(matrix: NDArray[np.int64], most: int = 5) -> list[tuple[int, int, int]]:
    """The most frequent mistakes: (label, predicted, count), most frequent first; ties in the order of classes."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(each), matrix.shape[1]) for each in order]
    return [(label, taken, int(wrong[label, taken])) for label, taken in pairs if wrong[label, taken]]


def confusion_matrix(predictions: Predictions, classes: Sequence[str], of: str) -> Drawing:
    """The confusion matrix, coloured by the share of each row's class."""
    matrix = confusion(predictions)
    count = len(matrix)
    names = [classes[at] if at < len(classes) else str(at) for at in range(count)]
    side = min(max(0.52 * count, 3.2), 8.5)
    figure = canvas(side + 2.4, side + 1.7)
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    if count <= MOST_COUNTED:
        _numbers(axes, matrix, share)
    every = range(0, count, math.ceil(count / MOST_NAMED))
    texts = [literal(shortened(names[at], 20)) for at in every]
    axes.set_xticks(every, texts, rotation=90 if max(map(len, texts)) > 2 else 0, fontsize=8, color=INK)
    axes.set_yticks(every, texts, fontsize=8, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", fontsize=10, color=INK)
    axes.set_ylabel("label", fontsize=10, color=INK)
    bar = figure.colorbar(picture, ax=axes, shrink=0.7, aspect=25, pad=0.02, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    hits, n = int(np.trace(matrix)), int(matrix.sum())
    title = f"Confusion matrix of {of} on {predictions.split}"
    axes.set_title(literal(shortened(title, 80)), fontsize=10, color=INK)
    often = _often(matrix, names)
    caption = f"{hits:,} of {n:,} images are right. Colour: share of the row's class, by its square root. {often}"
    return finished(figure, "confusion", title, caption, f"{title}. {often}")


def _numbers(axes: Axes, matrix: NDArray[np.int64], share: NDArray[np.float64]) -> None:
    """The counts in their cells; none for zeros, which say most by being empty."""
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


def _often(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    found = [f"{names[label]} taken for {names[taken]} ({count})" for label, taken, count in confusions(matrix)]
    return f"Most frequent mistakes: {', '.join(found)}." if found else "There are no mistakes."


# single cases


@dataclass(frozen=True)
class Cases:
    """Rows of a split's predictions (not ids), each list in the order of its name."""

    best: tuple[int, ...]
    worst: tuple[int, ...]
    surest_mistakes: tuple[int, ...]


def cases(predictions: Predictions, count: int = CASES) -> Cases:
    """The samples with the lowest and the highest loss, and the mistakes made with the highest probability.

    Where the loss has no value for a sample, the label's probability among the first classes stands for it (0 where
    the label is not among them). Ties go by the samples' order.
    """
    losses = predictions.losses.astype(np.float64)
    if np.isnan(losses).any():
        losses = -_label_probability(predictions)
    wrong = np.flatnonzero(~predictions.hits)
    surest = wrong[np.argsort(-predictions.probabilities[wrong, 0], kind="stable")]
    order = np.argsort(losses, kind="stable")
    worst = np.argsort(-losses, kind="stable")
    return Cases(*(tuple(map(int, each[:count])) for each in (order, worst, surest)))


def _label_probability(predictions: Predictions) -> NDArray[np.float64]:
    there = predictions.top == predictions.labels[:, None]
    found: NDArray[np.float64] = np.where(there, predictions.probabilities, 0.0).sum(1)
    return found


def case_rows(chosen: Cases) -> set[int]:
    """All samples that :func:`case_pictures` shows, as rows of the predictions."""
    return {*chosen.best, *chosen.worst, *chosen.surest_mistakes}


def case_pictures(
    predictions: Predictions, chosen: Cases, images: Mapping[int, Image], classes: Sequence[str], of: str
) -> Drawing:
    """The chosen samples as the network was shown them, with label, prediction and its probability.

    ``images`` are by id; a sample without one leaves its place empty.
    """
    rows = [
        ("lowest loss", chosen.best),
        ("highest loss", chosen.worst),
        ("surest mistakes", chosen.surest_mistakes),
    ]
    rows = [(name, found) for name, found in rows if found]
    columns = max(len(found) for _, found in rows)
    figure = canvas(1.25 * columns + 0.6, 1.75 * len(rows) + 0.7)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (name, found), line in zip(rows, grid, strict=True):
        for at, axes in enumerate(line):
            _empty(axes)
            if at < len(found):
                _case(axes, predictions, found[at], images, classes)
        line[0].set_ylabel(name, fontsize=9, color=INK)
    title = f"Best and worst predictions of {of} on {predictions.split}"
    figure.suptitle(literal(shortened(title, 90)), fontsize=10, color=INK)
    return finished(
        figure, "worst", title, _cases_caption(predictions), f"{title}: {_cases_alt(predictions, chosen, classes)}"
    )


def _empty(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _case(axes: Axes, predictions: Predictions, row: int, images: Mapping[int, Image], classes: Sequence[str]) -> None:
    image = images.get(int(predictions.ids[row]))
    if image is not None:
        grey = image.shape[2] != 3
        axes.imshow(image.mean(2) if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
    hit = bool(predictions.hits[row])
    label, taken = (_name(classes, int(each)) for each in (predictions.labels[row], predictions.top[row, 0]))
    sure = _percent(float(predictions.probabilities[row, 0]))
    text = f"{label}\n{sure}" if hit else f"{label}\ntaken for {taken}\n{sure}"
    axes.set_xlabel(literal(text), fontsize=7.5, color=INK if hit else FAILED)


def _percent(share: float) -> str:
    """``73 %``, ``99.6 %``: a mistake is never said to have been certain."""
    if share > 0.9995:
        return "> 99.9 %"
    return f"{100 * share:.1f} %" if share > 0.99 else f"{100 * share:.0f} %"


def _name(classes: Sequence[str], place: int) -> str:
    return shortened(classes[place] if place < len(classes) else str(place), 14)


def _cases_caption(predictions: Predictions) -> str:
    means = (
        "their losses have no value for one image, so the label's probability stands for it"
        if np.isnan(predictions.losses).any()
        else "by the loss of each image"
    )
    return (
        f"Lowest and highest {means}; surest mistakes by the probability of what was predicted, which is below each "
        "image. Red: mistakes. A highest loss that is a right answer was only unsure."
    )


def _cases_alt(predictions: Predictions, chosen: Cases, classes: Sequence[str]) -> str:
    said = [
        f"{_name(classes, int(predictions.labels[row]))} taken for {_name(classes, int(predictions.top[row, 0]))}"
        for row in chosen.surest_mistakes
    ]
    return f"the surest mistakes are {', '.join(said)}." if said else "there are no mistakes."
