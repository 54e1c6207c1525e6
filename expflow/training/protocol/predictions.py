"""What a network said of each sample of a split: ids, labels, the first classes with their scores, losses.

One file of plain arrays (numpy's npz, never pickled), with a checksum of its content. Intervals by bootstrap over
samples, McNemar's test, confusions and worst cases come from it, long after the network is gone.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.errors import PredictionsDamaged, StorageUnwritable
from expflow.files import replace_whole

FIRST = 5
"""How many classes are kept of each sample, those with the highest scores."""

FORMAT = 1
_META = "about"


@dataclass(frozen=True)
class Predictions:
    """Predictions on ``split``, in the order of their ids (a sample's position in its split), each sample once.

    ``labels`` (n,), ``top`` (n, k) the first k classes by score, best first, ``scores`` (n, k) theirs, ``totals`` (n,)
    the logarithm of the sum of exp(score) over all classes, ``losses`` (n,), nan where the loss has no value for one
    sample. ``classes`` is how many classes there are.
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
        found: NDArray[np.float64] = np.exp(self.scores.astype(np.float64) - self.totals.astype(np.float64)[:, None])
        return found

    @property
    def hits(self) -> NDArray[np.bool_]:
        """(n,) whether the first class is the label."""
        found: NDArray[np.bool_] = self.top[:, 0] == self.labels
        return found

    def hits_among(self, k: int) -> NDArray[np.bool_]:
        """(n,) whether the label is among the first k classes. Raises ValueError where fewer are kept."""
        if k > self.top.shape[1]:
            raise ValueError(f"{self.top.shape[1]} classes are kept of each sample, {k} were asked for")
        found: NDArray[np.bool_] = (self.top[:, :k] == self.labels[:, None]).any(axis=1)
        return found


_ARRAYS = tuple(each.name for each in fields(Predictions) if each.name not in ("split", "classes"))
_DTYPES = {"ids": np.int64, "labels": np.int64, "top": np.int64}


def joined(split: str, classes: int, parts: Iterable[dict[str, Any]]) -> Predictions | None:
    """The predictions that ``parts`` hold together, one of them for each rank; None where one of them has none.

    A part has the arrays of :class:`Predictions`, and ``valid`` (n,), which is false for padding.
    """
    found = list(parts)
    if not found or not all(found):
        return None
    valid = np.concatenate([each["valid"] for each in found])
    arrays = {name: np.concatenate([each[name] for each in found])[valid] for name in _ARRAYS}
    _, first = np.unique(arrays["ids"], return_index=True)  # sorts, and drops what a sampler repeats on two ranks
    kept: dict[str, Any] = {
        name: np.ascontiguousarray(each[first], dtype=_DTYPES.get(name, np.float32)) for name, each in arrays.items()
    }
    return Predictions(split, classes, **kept)


def write(predictions: Predictions, path: Path) -> str:
    """Write ``predictions`` to ``path``, whole or not at all; returns the file's sha256. Raises StorageUnwritable."""
    content = _sealed(predictions)
    try:
        replace_whole(path, content, durable=True)
    except OSError as error:
        raise StorageUnwritable(f"the predictions {path} cannot be written: {error.strerror or error}") from error
    return hashlib.sha256(content).hexdigest()


def read(path: Path) -> Predictions:
    """The predictions in the file ``path``, held against their checksum. Raises PredictionsDamaged."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PredictionsDamaged(f"there are no predictions at {path}: {error.strerror or error}") from error
    if content[-len(_UNSEALED) :] != _seal(content[: -len(_UNSEALED)]):
        raise PredictionsDamaged(f"{path} is not what was written: its checksum differs")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            about = json.loads(str(file[_META]))
            if about["format"] > FORMAT:
                raise PredictionsDamaged(f"{path} has format {about['format']}; this expflow reads up to {FORMAT}")
            arrays = {name: file[name].astype(_DTYPES.get(name, np.float32)) for name in _ARRAYS}
    except (ValueError, KeyError, TypeError) as error:
        raise PredictionsDamaged(f"{path} holds no predictions: {error}") from error
    return Predictions(about["split"], about["classes"], **arrays)


def _sealed(predictions: Predictions) -> bytes:
    """The bytes of an npz whose archive comment is the checksum of all that stands before it."""
    about = {"format": FORMAT, "split": predictions.split, "classes": predictions.classes}
    arrays = {name: _small(getattr(predictions, name)) for name in _ARRAYS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{_META: np.asarray(json.dumps(about))}, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = _UNSEALED
    content = buffer.getvalue()[: -len(_UNSEALED)]
    return content + _seal(content)


def _seal(content: bytes) -> bytes:
    return b"sha256:" + hashlib.sha256(content).hexdigest().encode()


_UNSEALED = b"?" * len(_seal(b""))


def _small(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers in as few bytes as they need."""
    if array.dtype.kind != "i" or not array.size:
        return array
    return array.astype(np.result_type(np.min_scalar_type(array.min()), np.min_scalar_type(array.max())))
