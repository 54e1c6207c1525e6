"""How often each class was taken for each other one."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expflow.training.artifacts import ArtifactWriter
from expflow.training.evaluation.predictions import Predictions

MOST_CLASSES = 100
"""With more classes no table is written: it would be too large to be read, and grows with their square."""


def confusion_counts(predictions: Predictions) -> NDArray[np.int64]:
    """(classes, classes) how many samples of each class (row) were taken for each class (column).

    Args:
        predictions: Of one split; samples whose label is no class (one that the loss ignores) are left out.
    """
    classes, labels = predictions.classes, predictions.labels
    labelled = (labels >= 0) & (labels < classes)
    cells = labels[labelled] * classes + predictions.top[labelled, 0]
    counts: NDArray[np.int64] = np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
    return counts


def write_confusion_table(predictions: Predictions, names: Sequence[str], artifacts: ArtifactWriter, step: int) -> None:
    """Write the confusion matrix as the table ``confusion-SPLIT``, for up to :data:`MOST_CLASSES` classes.

    Args:
        predictions: Of one split.
        names: Of the classes, in their order; numbers stand for them where there is not one for each class.
        artifacts: What the table is written by.
        step: The optimizer step of the weights that predicted.
    """
    classes = predictions.classes
    if classes > MOST_CLASSES:
        return
    titles = list(names) if len(names) == classes else [str(number) for number in range(classes)]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["true class", *titles])
    for title, row in zip(titles, confusion_counts(predictions).tolist(), strict=True):
        table.writerow([title, *row])
    artifacts.write_table(f"confusion-{predictions.split}", text.getvalue(), step)
