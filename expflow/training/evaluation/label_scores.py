"""What a trial keeps of its scores for several classes of an image: for the table of AP and the interval of mAP."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.errors import PredictionsDamaged
from expflow.training.artifacts import ArtifactWriter
from expflow.training.evaluation.sealed_arrays import read_arrays, write_arrays

FORMAT = 1


def label_scores_file(split: str) -> str:
    """Name of the file, in a trial's folder, with its scores on one split.

    Args:
        split: Name of the split.
    """
    return f"label-scores-{split}.npz"


@dataclass(frozen=True)
class LabelScores:
    """A network's score for each class of each image of a split, and the answers.

    Attributes:
        split: Name of the split.
        ids: (n,) the images' positions in the split, ascending.
        scores: (n, classes) float32.
        labels: (n, classes) 1 where an image is of the class, 0 where it is not; anything else is not known.
    """

    split: str
    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)


def join_label_scores(split: str, parts: Iterable[dict[str, NDArray[Any]]]) -> LabelScores | None:
    """The scores of all ranks together, each image once; None where a rank has none.

    Args:
        split: Name of the split.
        parts: Of each rank ``ids`` (n,), ``scores`` and ``labels`` (n, classes) and ``valid`` (n,), false for padding.
    """
    ranks = list(parts)
    if not ranks or not all(ranks):
        return None
    joined = {name: np.concatenate([part[name] for part in ranks]) for name in ("ids", "scores", "labels", "valid")}
    valid = joined["valid"]
    ids, first = np.unique(joined["ids"][valid], return_index=True)
    scores, labels = (joined[name][valid][first] for name in ("scores", "labels"))
    return LabelScores(split, ids.astype(np.int64), scores.astype(np.float32), labels.astype(np.uint8))


def save_label_scores(scores: LabelScores, path: Path) -> str:
    """Write scores to a file, whole or not at all.

    Args:
        scores: Those of one split.
        path: The file.

    Returns:
        The file's sha256.

    Raises:
        StorageUnwritable: The file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"ids": scores.ids, "scores": scores.scores, "labels": scores.labels}
    return write_arrays(path, {"format": FORMAT, "split": scores.split}, arrays)


def load_label_scores(path: Path) -> LabelScores:
    """The scores in a file, compared with their checksum.

    Args:
        path: The file.

    Raises:
        PredictionsDamaged: It is missing, holds no scores, or is not what was written.
    """
    about, stored = read_arrays(path, FORMAT)
    try:
        ids, labels = stored["ids"].astype(np.int64), stored["labels"].astype(np.uint8)
        scores = LabelScores(str(about["split"]), ids, stored["scores"].astype(np.float32), labels)
        if scores.scores.ndim != 2 or labels.shape != scores.scores.shape or ids.shape != labels.shape[:1]:
            raise ValueError("its arrays do not fit together")
    except (KeyError, TypeError, ValueError) as error:
        raise PredictionsDamaged(f"{path} holds no scores of labels: {error}") from error
    return scores


def class_average_precisions(scores: LabelScores, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """AP of each class, as :func:`expflow.tasks.ranking_precision.average_precision` defines it.

    Args:
        scores: Those of one split.
        weights: (draws, n) how often each image counts, in each of several draws; None: once, in one.

    Returns:
        (draws, classes); nan where no image that counts is of the class.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    columns = zip(scores.scores.T, scores.labels.T, strict=True)
    return np.stack([_of_class(*column, weights) for column in columns], axis=1)


def _of_class(
    scores_n: NDArray[np.float32], labels_n: NDArray[np.uint8], weights_rn: NDArray[np.float64]
) -> NDArray[np.float64]:
    known = np.flatnonzero(labels_n <= 1)
    order = known[np.argsort(-scores_n[known], kind="stable")]
    if not len(order):
        return np.full(len(weights_rn), np.nan)
    sorted_n, drawn = scores_n[order], weights_rn[:, order]
    last_of_tie = np.append(sorted_n[1:] != sorted_n[:-1], True)
    right = np.cumsum(drawn * (labels_n[order] == 1), axis=1)[:, last_of_tie]
    taken = np.cumsum(drawn, axis=1)[:, last_of_tie]
    positives = right[:, -1:]
    gained = np.diff(right, axis=1, prepend=0)
    precision = right / np.maximum(taken, 1e-300)
    sums: NDArray[np.float64] = (gained * precision).sum(axis=1)
    return np.where(positives[:, 0] > 0, sums / np.maximum(positives[:, 0], 1e-300), np.nan)


def write_label_table(scores: LabelScores, names: Sequence[str], artifacts: ArtifactWriter, step: int) -> None:
    """Write the table ``ap-SPLIT``: of each class its AP, and for how many images the answer is yes, no and not known.

    Args:
        scores: Those of one split.
        names: Names of the classes, in their order.
        artifacts: What the table is written by.
        step: The optimizer step of the weights that gave the scores.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["class", "ap", "yes", "no", "not known"])
    for number, ap in enumerate(class_average_precisions(scores)[0].tolist()):
        labels = scores.labels[:, number]
        counts = [int((labels == 1).sum()), int((labels == 0).sum()), int((labels > 1).sum())]
        name = names[number] if number < len(names) else str(number)
        table.writerow([name, "" if np.isnan(ap) else f"{ap:.6f}", *counts])
    artifacts.write_table(f"ap-{scores.split}", text.getvalue(), step)
