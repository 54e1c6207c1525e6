"""How overlaps come out of a validation: kept on the device batch by batch, read once at the end of the trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from expflow.ledger.lock import check_epoch
from expflow.training.contract import Attempt, World
from expflow.training.evaluation.overlaps import MaskOverlaps, join_overlaps, overlaps_file, save_overlaps
from expflow.training.ranks import gather_objects


class OverlapRecorder(Callback):
    """Keeps ``overlaps`` (b, 3, classes) of the newest whole validation, where a task's steps return them.

    Batches have ``index`` (b,) and ``valid`` (b,), as those of prepared shards do; without them nothing is kept.
    """

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []
        self._whole: list[dict[str, Tensor]] = []
        self._closed = False

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "overlaps"

    def close(self) -> None:
        """Record nothing from here on: what is validated is another split."""
        self._closed = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A pass begins."""
        self._batches = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the overlaps of this batch, on the device: nothing waits for it."""
        counts = outputs.get("overlaps") if isinstance(outputs, Mapping) else None
        if self._closed or dataloader_idx or not isinstance(counts, Tensor) or "index" not in batch:
            return
        self._batches.append({"ids": batch["index"], "counts": counts, "valid": batch["valid"]})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The pass is whole: it takes the place of the one before."""
        if not self._closed:
            self._whole, self._batches = self._batches, []

    on_test_start, on_test_batch_end, on_test_end = on_validation_start, on_validation_batch_end, on_validation_end

    def overlaps(self, split: str, world: World) -> MaskOverlaps | None:
        """The overlaps of the newest whole pass, over all ranks. All ranks have to call it.

        Args:
            split: The split that the pass was over.
            world: This rank among those of its trial.

        Returns:
            The overlaps on rank 0; None on the others, and where the task gives none.
        """
        own = {
            name: torch.cat([batch[name] for batch in self._whole]).cpu().numpy()
            for name in (self._whole[0] if self._whole else ())
        }
        parts = gather_objects(own, world)
        return None if world.rank else join_overlaps(split, parts)

    def save(self, attempt: Attempt, world: World) -> MaskOverlaps | None:
        """Write the overlaps on val into the trial's folder, and record nothing from here on.

        Args:
            attempt: Whose folder is written to.
            world: This rank among those of its trial.

        Returns:
            What was written; None where nothing was.

        Raises:
            StorageUnwritable: The file cannot be written.
            StaleDriver: A newer driver has taken over.
        """
        self.close()
        if attempt.folder is None:
            return None
        overlaps = self.overlaps("val", world)
        if overlaps is None:
            return None
        if attempt.fence is not None:
            check_epoch(attempt.fence.folder, attempt.fence.epoch)
        save_overlaps(overlaps, attempt.folder / overlaps_file("val"))
        return overlaps
