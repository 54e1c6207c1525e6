"""What callbacks share that keep something of each sample of a validation, and write it when the trial ends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from expflow.ledger.lock import check_epoch
from expflow.training.contract import Attempt, World

Part = dict[str, NDArray[Any]]
Recorded = TypeVar("Recorded")


@dataclass(frozen=True)
class KeptSamples:
    """Something of each sample of a split, not written yet.

    Attributes:
        file: Name of its file in a trial's folder.
        write: Writes it to a path, and returns the file's sha256.
    """

    file: str
    write: Callable[[Path], str]


class ValidationRecorder(Callback, Generic[Recorded]):
    """Keeps tensors of the newest whole validation, batch by batch, on the device: nothing waits for it."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []
        self._whole: list[dict[str, Tensor]] = []
        self._closed = False
        self.complete = False
        """Whether a validation has run to its end."""

    def close(self) -> None:
        """Record nothing from here on: what is validated is another split."""
        self._closed = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A pass begins."""
        self._batches = []
        self._begin()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what is wanted of this batch."""
        if not self._closed and not dataloader_idx:
            self._take(outputs, batch, alone=trainer.world_size == 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The pass is whole: it takes the place of the one before."""
        if not self._closed:
            self._end()
            self._whole, self._batches, self.complete = self._batches, [], True

    on_test_start, on_test_batch_end, on_test_end = on_validation_start, on_validation_batch_end, on_validation_end

    def save(self, attempt: Attempt, world: World) -> Recorded | None:
        """Write what was recorded on val into the trial's folder, and record nothing from here on.

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
        if attempt.folder is None or not self.complete:
            return None
        recorded = self._gather("val", world)
        if recorded is None:
            return None
        if attempt.fence is not None:
            check_epoch(attempt.fence.folder, attempt.fence.epoch)
        self.write(recorded, "val", attempt.folder / self.file("val"))
        return recorded

    def kept(self, split: str, world: World) -> KeptSamples | None:
        """What was recorded of the newest whole pass, to be written by whoever evaluates finished trials.

        Args:
            split: The split that the pass was over.
            world: This rank, the only one.

        Returns:
            None where the task gives nothing of this kind.
        """
        recorded = self._gather(split, world) if self.complete else None
        return (
            None if recorded is None else KeptSamples(self.file(split), lambda path: self.write(recorded, split, path))
        )

    def _part(self) -> Part:
        """What this rank has of the newest whole pass; empty where that is nothing."""
        names = self._whole[0] if self._whole else ()
        return {name: torch.cat([batch[name] for batch in self._whole]).cpu().numpy() for name in names}

    def _begin(self) -> None:
        """A pass begins: what a subclass counts in it begins anew."""

    @abstractmethod
    def _take(self, outputs: Any, batch: Any, *, alone: bool) -> None:
        """Add to ``_batches`` what is wanted of a batch; ``alone``: there is one rank."""

    def _end(self) -> None:
        """A pass ends: a subclass may drop ``_batches``."""

    @abstractmethod
    def _gather(self, split: str, world: World) -> Recorded | None:
        """What all ranks have of the newest whole pass, on rank 0; None on the others, and where there is nothing."""

    @abstractmethod
    def file(self, split: str) -> str:
        """Name of the file, in a trial's folder, with what was recorded on a split.

        Args:
            split: Name of the split.
        """

    @abstractmethod
    def write(self, recorded: Recorded, split: str, path: Path) -> str:
        """Write what was recorded on a split to a file; its sha256.

        Args:
            recorded: What all ranks recorded.
            split: Name of the split.
            path: The file.
        """
