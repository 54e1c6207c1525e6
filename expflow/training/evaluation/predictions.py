"""A network's predictions on a split: of each sample its id, label, the first classes with their scores, and its loss.

One file of plain arrays (numpy's npz, never pickled), with a checksum of its content. Intervals by bootstrap over
samples, McNemar's test, confusions and worst cases come from it, long after the network is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.errors import PredictionsDamaged
from expflow.training.evaluation.sealed_arrays import read_arrays, write_arrays

FIRST = 5
"""How many classes are kept of each sample, those with the highest scores."""

FORMAT = 1


@dataclass(frozen=True)
class Predictions:
    """Predictions on one split, in the order of their ids, each sample once.

    Attributes:
        split: Name of the split.
        classes: How many classes there are.
        ids: (n,) each sample's position in its split.
        labels: (n,)
        top: (n, k) the first k classes by score, best first.
        scores: (n, k) of these classes.
        totals: (n,) the logarithm of the sum of exp(score) over all classes.
        losses: (n,) nan where the loss has no value for one sample.
    """

    split: str
    classes: int
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    top: NDArray[np.int64]
    scores: NDArray[np.float32]
    totals: NDArray[np.float32]
    losses: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, k) softmax over all classes of the first k. After another loss than cross entropy only their order and
        their distance mean something."""
        shares: NDArray[np.float64] = np.exp(self.scores.astype(np.float64) - self.totals.astype(np.float64)[:, None])
        return shares

    @property
    def hits(self) -> NDArray[np.bool_]:
        """(n,) whether the first class is the label."""
        hits: NDArray[np.bool_] = self.top[:, 0] == self.labels
        return hits

    def hits_among(self, k: int) -> NDArray[np.bool_]:
        """(n,) whether the label is among the first k classes.

        Args:
            k: How many classes count.

        Raises:
            ValueError: Fewer are kept.
        """
        if k > self.top.shape[1]:
            raise ValueError(f"{self.top.shape[1]} classes are kept of each sample, {k} were asked for")
        hits: NDArray[np.bool_] = (self.top[:, :k] == self.labels[:, None]).any(axis=1)
        return hits


_ARRAYS = tuple(array.name for array in fields(Predictions) if array.name not in ("split", "classes"))
_DTYPES = {"ids": np.int64, "labels": np.int64, "top": np.int64}


def join_predictions(split: str, classes: int, parts: Iterable[dict[str, Any]]) -> Predictions | None:
    """The predictions of all ranks together; None where one of them has none, or where ids name no samples.

    An id that comes twice is a sample that two ranks have seen: then its labels are equal, and mostly its first class.

    Args:
        split: Name of the split.
        classes: How many classes there are.
        parts: Of each rank the arrays of :class:`Predictions`, and ``valid`` (n,), which is false for padding.
    """
    ranks = list(parts)
    if not ranks or not all(ranks):
        return None
    valid = np.concatenate([part["valid"] for part in ranks])
    arrays = {name: np.concatenate([part[name] for part in ranks])[valid] for name in _ARRAYS}
    _, first, again = np.unique(arrays["ids"], return_index=True, return_inverse=True)
    repeated = np.ones(len(again), bool)
    repeated[first] = False
    other_label, other_top = (arrays[name] != arrays[name][first][again] for name in ("labels", "top"))
    if other_label.any() or (repeated.any() and other_top[repeated, 0].mean() > 0.5):
        return None
    kept: dict[str, Any] = {
        name: np.ascontiguousarray(array[first], dtype=_DTYPES.get(name, np.float32)) for name, array in arrays.items()
    }
    return Predictions(split, classes, **kept)


def save_predictions(predictions: Predictions, path: Path) -> str:
    """Write predictions to a file, whole or not at all.

    Args:
        predictions: Those of one split.
        path: The file.

    Returns:
        The file's sha256.

    Raises:
        StorageUnwritable: The file cannot be written.
    """
    about = {"format": FORMAT, "split": predictions.split, "classes": predictions.classes}
    return write_arrays(path, about, {name: getattr(predictions, name) for name in _ARRAYS})


def load_predictions(path: Path) -> Predictions:
    """The predictions in a file, compared with their checksum.

    Args:
        path: The file.

    Raises:
        PredictionsDamaged: It is missing, holds no predictions, or is not what was written.
    """
    about, stored = read_arrays(path, FORMAT)
    try:
        arrays: dict[str, Any] = {name: stored[name].astype(_DTYPES.get(name, np.float32)) for name in _ARRAYS}
        count, kept = arrays["top"].shape
        shapes = {name: (count, kept) if name in ("top", "scores") else (count,) for name in arrays}
        if any(array.shape != shapes[name] for name, array in arrays.items()):
            raise ValueError("its arrays do not fit together")
        return Predictions(str(about["split"]), int(about["classes"]), **arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise PredictionsDamaged(f"{path} holds no predictions: {error}") from error
