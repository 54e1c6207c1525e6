"""What tasks have in common that name the class of an image and are fitted once, without steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from expflow.tasks.base import Batch
from expflow.tasks.low_overhead import LowOverheadModule
from expflow.tasks.mean_accumulator import MeanAccumulator


class FittedClassifier(LowOverheadModule):
    """Measures loss, top-1 and, with more than five classes, top-5 of a module that has ``fit``.

    Args:
        classes: How many classes there are.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._classes, self._epoch_means = classes, MeanAccumulator()

    def losses_of(self, scores_bc: Tensor, label_b: Tensor) -> Tensor:
        """(b,) what the scores cost.

        Args:
            scores_bc: (b, classes).
            label_b: (b,) classes.
        """
        raise NotImplementedError

    def scores_of(self, batch: Batch) -> Tensor:
        """(b, classes) the scores of a batch.

        Args:
            batch: The batch.
        """
        scores: Tensor = self(batch["image"])
        return scores

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the batch to the means.

        Returns:
            ``scores`` (b, classes) and ``losses`` (b,).
        """
        scores, label, valid = self.scores_of(batch), batch["label"], batch["valid"]
        losses = self.losses_of(scores, label)
        hits = [(scores.argmax(1) == label) & valid]
        if self._classes > 5:
            hits.append((scores.topk(5, 1).indices == label[:, None]).any(1) & valid)
        samples = valid.sum()
        mean = torch.where(valid, losses, 0).sum() / samples.clamp(min=1)
        self._epoch_means.add(samples, mean, *(hit.sum() for hit in hits))
        return {"scores": scores, "losses": losses}

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/loss``, ``val/top1`` and, with more than five classes, ``val/top5``, over all ranks."""
        total, self._epoch_means = self._epoch_means.total(), MeanAccumulator()
        if total is None:
            return
        sums: Any = self.trainer.strategy.reduce(total, reduce_op="sum")
        names = ("loss", "top1", "top5")[: len(sums) - 1]
        self.log_dict({f"val/{name}": value / sums[0] for name, value in zip(names, sums[1:], strict=True)})
