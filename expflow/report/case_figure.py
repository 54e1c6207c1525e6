"""Draws single samples: those that a trial predicts best and worst, and its surest mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from expflow.report.canvas import (
    INK,
    RenderedFigure,
    escape_mathtext,
    new_figure,
    render_figure,
    truncated,
    write_title,
)
from expflow.report.palette import FAILED
from expflow.training.evaluation.predictions import Predictions

CASES = 8
"""Images in a row of best or worst cases."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Cases:
    """Rows of a split's predictions (not ids).

    Attributes:
        best: Lowest loss first.
        worst: Highest loss first.
        surest_mistakes: Mistakes, that of the highest probability first.
    """

    best: tuple[int, ...]
    worst: tuple[int, ...]
    surest_mistakes: tuple[int, ...]


def select_cases(predictions: Predictions, count: int = CASES) -> Cases:
    """The samples with the lowest and the highest loss, and the mistakes made with the highest probability.

    Where the loss has no value for a sample, the label's probability among the first classes stands for it (0 where
    the label is not among them). Ties go by the samples' order.

    Args:
        predictions: A trial's predictions on one split.
        count: The most samples of each kind.
    """
    losses = predictions.losses.astype(np.float64)
    if np.isnan(losses).any():
        losses = -_label_probability(predictions)
    wrong = np.flatnonzero(~predictions.hits)
    surest = wrong[np.argsort(-predictions.probabilities[wrong, 0], kind="stable")]
    order = np.argsort(losses, kind="stable")
    worst = np.argsort(-losses, kind="stable")
    return Cases(*(tuple(map(int, rows[:count])) for rows in (order, worst, surest)))


def _label_probability(predictions: Predictions) -> NDArray[np.float64]:
    there = predictions.top == predictions.labels[:, None]
    probability: NDArray[np.float64] = np.where(there, predictions.probabilities, 0.0).sum(1)
    return probability


def case_rows(chosen: Cases) -> set[int]:
    """All samples that :func:`case_figure` shows, as rows of the predictions.

    Args:
        chosen: The chosen samples.
    """
    return {*chosen.best, *chosen.worst, *chosen.surest_mistakes}


def case_figure(
    predictions: Predictions, chosen: Cases, images: Mapping[int, Image], classes: Sequence[str], of: str
) -> RenderedFigure:
    """The chosen samples as the network was shown them, with label, prediction and its probability.

    Args:
        predictions: A trial's predictions on one split.
        chosen: The samples, as rows of the predictions.
        images: Sample id -> image (height, width, channels), 0 to 255; a sample without one leaves its place empty.
        classes: Names of the classes.
        of: Which trial it is, for the title.
    """
    rows = [
        ("lowest loss", chosen.best),
        ("highest loss", chosen.worst),
        ("surest mistakes", chosen.surest_mistakes),
    ]
    rows = [(name, samples) for name, samples in rows if samples]
    columns = max(len(samples) for _, samples in rows)
    figure = new_figure(1.25 * columns + 0.6, 1.75 * len(rows) + 0.7)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (name, samples), line in zip(rows, grid, strict=True):
        for at, axes in enumerate(line):
            _empty(axes)
            if at < len(samples):
                _case(axes, predictions, samples[at], images, classes)
        line[0].set_ylabel(name, fontsize=9, color=INK)
    title = f"Best and worst predictions of {of} on {predictions.split}"
    write_title(figure, title)
    return render_figure(
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
    label, taken = (_name(classes, int(number)) for number in (predictions.labels[row], predictions.top[row, 0]))
    sure = _percent(float(predictions.probabilities[row, 0]))
    text = f"{label}\n{sure}" if hit else f"{label}\ntaken for {taken}\n{sure}"
    axes.set_xlabel(escape_mathtext(text), fontsize=7.5, color=INK if hit else FAILED)


def _percent(share: float) -> str:
    """``73 %``, ``99.6 %``: a mistake is never shown with 100 %."""
    if share > 0.9995:
        return "> 99.9 %"
    return f"{100 * share:.1f} %" if share > 0.99 else f"{100 * share:.0f} %"


def _name(classes: Sequence[str], place: int) -> str:
    return truncated(classes[place] if place < len(classes) else str(place), 14)


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
    mistakes = [
        f"{_name(classes, int(predictions.labels[row]))} taken for {_name(classes, int(predictions.top[row, 0]))}"
        for row in chosen.surest_mistakes
    ]
    return f"the surest mistakes are {', '.join(mistakes)}." if mistakes else "there are no mistakes."
