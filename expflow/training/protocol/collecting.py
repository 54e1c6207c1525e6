"""How predictions come out of a validation: kept on the device batch by batch, read once at the end of the trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from expflow.ledger.lock import check_epoch
from expflow.training.contract import Attempt, World
from expflow.training.protocol.predictions import FIRST, Predictions, joined, write

Part = dict[str, NDArray[Any]]


def file_of(split: str) -> str:
    """Name of the file, in a trial's folder, with its predictions on ``split``."""
    return f"predictions-{split}.npz"


class Collecting(Callback):
    """Keeps what the newest whole validation said of each sample.

    It takes what a task's ``validation_step`` (or ``test_step``) returns: a mapping with ``scores`` (b, classes), and
    with ``losses`` (b,) where there is a loss for each sample; and of the batch ``label``, ``valid`` and ``index``
    where they are. A task that returns no scores has no predictions. With ``rows`` all probabilities are kept.
    """

    def __init__(self, *, rows: bool = False) -> None:
        self._rows = rows
        self._batches: list[dict[str, Tensor]] = []
        self._whole: list[dict[str, Tensor]] = []
        self._classes, self._seen, self._closed = 0, 0, False
        self.complete = False
        """Whether a validation has run to its end."""

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "predictions"

    def close(self) -> None:
        """What is validated from here on is another split."""
        self._closed = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A pass begins."""
        self._batches, self._seen = [], 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first classes of this batch, on the device: nothing waits for it."""
        if self._closed or dataloader_idx or not isinstance(outputs, Mapping) or "scores" not in outputs:
            return
        if isinstance(batch, Mapping) and "label" in batch:
            self._keep(outputs, batch, alone=trainer.world_size == 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The pass is whole: it takes the place of the one before."""
        if not self._closed:
            self._whole, self._batches, self.complete = self._batches, [], True

    on_test_start, on_test_batch_end, on_test_end = on_validation_start, on_validation_batch_end, on_validation_end

    @torch.no_grad()
    def _keep(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor], *, alone: bool) -> None:
        scores, label = outputs["scores"].detach().float(), batch["label"]
        samples, self._classes = scores.shape
        best = scores.topk(min(FIRST, self._classes), 1)
        index = batch.get("index")
        if index is None and alone:  # a loader of the user's: its order is its samples' only name
            index = torch.arange(self._seen, self._seen + samples)
        self._seen += samples
        if index is None:
            return
        kept = {
            "ids": index,
            "labels": label if label.ndim == 1 else label.argmax(1),
            "top": best.indices,
            "scores": best.values,
            "totals": scores.logsumexp(1),
            "losses": outputs.get("losses", scores.new_full((samples,), float("nan"))).detach().float(),
            "valid": batch.get("valid", torch.ones(samples, dtype=torch.bool)),
        }
        if self._rows:
            kept["rows"] = scores.softmax(1)
        self._batches.append(kept)

    def predictions(self, split: str, world: World) -> Predictions | None:
        """What the newest whole pass said, over all ranks, on rank 0; None on the others, and where nothing is known.

        All ranks have to call it.
        """
        parts = self._from_all_ranks(world)
        return joined(split, self._classes, parts) if world.rank == 0 else None

    def rows(self) -> NDArray[np.float64]:
        """(n, classes) all probabilities of this rank's valid samples, in the order of :meth:`predictions`."""
        part = self._part()
        valid = part["valid"]
        _, first = np.unique(part["ids"][valid], return_index=True)
        found: NDArray[np.float64] = part["rows"][valid][first].astype(np.float64)
        return found

    def save(self, attempt: Attempt, world: World) -> Path | None:
        """Write the predictions on val into the trial's folder, and look no further; where, or None.

        Raises StorageUnwritable, and StaleDriver where a newer driver has taken over.
        """
        self.close()
        if attempt.folder is None or not self.complete:
            return None
        found = self.predictions("val", world)
        if found is None:
            return None
        if attempt.fence is not None:
            check_epoch(attempt.fence.folder, attempt.fence.epoch)
        path = attempt.folder / file_of("val")
        write(found, path)
        return path

    def _part(self) -> Part:
        if not self._whole:
            return {}
        return {name: torch.cat([each[name] for each in self._whole]).cpu().numpy() for name in self._whole[0]}

    def _from_all_ranks(self, world: World) -> list[Part]:
        part = self._part()
        if world.ranks == 1:
            return [part]
        parts: list[Any] = [None] * world.ranks
        dist.all_gather_object(parts, part)
        return parts
