"""How predictions come out of a validation: kept on the device batch by batch, read once at the end of the trial."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expflow.training.contract import World
from expflow.training.evaluation.predictions import FIRST, Predictions, join_predictions, save_predictions
from expflow.training.evaluation.validation_recorder import Part, ValidationRecorder
from expflow.training.ranks import gather_objects

logger = logging.getLogger(__name__)


def predictions_file(split: str) -> str:
    """Name of the file, in a trial's folder, with its predictions on one split.

    Args:
        split: Name of the split.
    """
    return f"predictions-{split}.npz"


class PredictionRecorder(ValidationRecorder[Predictions]):
    """Keeps the predictions of the newest whole validation, sample by sample.

    It takes what a task's ``validation_step`` (or ``test_step``) returns: a mapping with ``scores`` (b, classes), and
    with ``losses`` (b,) where there is a loss for each sample; and of the batch ``label`` (b,) or (b, classes),
    ``valid`` (b,) and ``index`` (b,) where they are. These are plain words, and a module of the user's may return
    something else under them: whatever has another type or shape is left alone. A task whose results have no such
    scores has no predictions. Where some batches of a pass have them and others have not, nothing is kept of the pass,
    with a warning: statistics over a part of the samples would look like those of all.

    Args:
        rows: Whether all probabilities are kept, not those of the first classes alone.
    """

    def __init__(self, *, rows: bool = False) -> None:
        super().__init__()
        self._rows = rows
        self._begin()

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "predictions"

    def _begin(self) -> None:
        self._seen, self._classes, self._left_out = 0, 0, ""

    def _take(self, outputs: Any, batch: Any, *, alone: bool) -> None:
        if reason := _no_predictions(outputs, batch, self._classes):
            self._left_out = reason
        else:
            self._keep(outputs, batch, alone=alone)

    def _end(self) -> None:
        if self._batches and self._left_out:
            logger.warning("predictions on val are not kept: one batch of the validation has %s", self._left_out)
            self._batches = []

    @torch.no_grad()
    def _keep(self, outputs: Mapping[str, Any], batch: Mapping[str, Any], *, alone: bool) -> None:
        scores, label = outputs["scores"].detach().float(), batch["label"]
        samples, self._classes = scores.shape
        best = scores.topk(min(FIRST, self._classes), 1)
        index = _of_samples(batch.get("index"), samples, torch.int64, torch.int32)
        if index is None and alone:  # a loader of the user's: its order is its samples' only name
            index = torch.arange(self._seen, self._seen + samples)
        self._seen += samples
        if index is None:
            return
        losses = _of_samples(
            outputs.get("losses"), samples, torch.float32, torch.float64, torch.float16, torch.bfloat16
        )
        valid = _of_samples(batch.get("valid"), samples, torch.bool)
        kept = {
            "ids": index,
            "labels": label if label.ndim == 1 else label.argmax(1),
            "top": best.indices,
            "scores": best.values,
            "totals": scores.logsumexp(1),
            "losses": scores.new_full((samples,), float("nan")) if losses is None else losses.detach().float(),
            "valid": torch.ones(samples, dtype=torch.bool) if valid is None else valid,
        }
        if self._rows:
            kept["rows"] = scores.softmax(1)
        self._batches.append(kept)

    def predictions(self, split: str, world: World) -> Predictions | None:
        """The predictions of the newest whole pass, over all ranks. All ranks have to call it.

        Args:
            split: The split that the pass was over.
            world: This rank among those of its trial.

        Returns:
            The predictions on rank 0; None on the others, and where the task gives none.
        """
        parts: list[Part] = gather_objects(self._part(), world)
        if world.rank:
            return None
        predictions = join_predictions(split, self._classes, parts)
        if predictions is None and all(parts):
            logger.warning(
                "predictions on %s are not kept: `index` in the batches is the same for different samples of two ranks;"
                " it has to be a sample's own number in the split",
                split,
            )
        return predictions

    def rows(self) -> NDArray[np.float64]:
        """(n, classes) all probabilities of this rank's valid samples, in the order of :meth:`predictions`."""
        part = self._part()
        valid = part["valid"]
        _, first = np.unique(part["ids"][valid], return_index=True)
        rows: NDArray[np.float64] = part["rows"][valid][first].astype(np.float64)
        return rows

    def _gather(self, split: str, world: World) -> Predictions | None:
        return self.predictions(split, world)

    def file(self, split: str) -> str:
        """Name of the file with the predictions on a split."""
        return predictions_file(split)

    def write(self, recorded: Predictions, split: str, path: Path) -> str:
        """Write predictions to a file; its sha256."""
        return save_predictions(recorded, path)

    def _part(self) -> Part:
        part = super()._part()
        if part:
            ids = part["ids"][part["valid"]]
            if len(np.unique(ids)) < len(ids):  # `index` is something else of the user's: the order is their name
                part["ids"] = np.arange(len(part["ids"]))
        return part


def _no_predictions(outputs: Any, batch: Any, classes: int) -> str:
    """Why the result of a step holds no predictions of classes; "" where it does. Nothing is read from the device.

    ``classes`` is how many the batches before had, 0 for the first.
    """
    scores = outputs.get("scores") if isinstance(outputs, Mapping) else None
    label = batch.get("label") if isinstance(batch, Mapping) else None
    if scores is None or label is None:
        return "no scores or no labels"
    if not isinstance(scores, Tensor) or not isinstance(label, Tensor):
        return f"scores that are a {type(scores).__name__} and labels that are a {type(label).__name__}"
    if scores.ndim != 2 or not scores.shape[1] or scores.is_complex():
        return f"for scores a tensor of shape {tuple(scores.shape)}"
    if classes and scores.shape[1] != classes:
        return f"scores of {scores.shape[1]} classes, and {classes} before"
    whole = not (label.is_floating_point() or label.is_complex())
    if tuple(label.shape) != tuple(scores.shape) and not (whole and tuple(label.shape) == (len(scores),)):
        return f"labels of shape {tuple(label.shape)} beside scores of shape {tuple(scores.shape)}"
    return ""


def _of_samples(value: Any, samples: int, *dtypes: torch.dtype) -> Tensor | None:
    """``value`` where it is a tensor (b,) of one of the ``dtypes``, one entry for each sample; else None."""
    fits = isinstance(value, Tensor) and value.dtype in dtypes and tuple(value.shape) == (samples,)
    return value if fits else None
