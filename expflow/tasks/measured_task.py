"""What every task of ours has in common: metrics that are exact over an epoch, its ranks and its interruptions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from expflow.tasks.feature_distance import FeatureDistance
from expflow.tasks.low_overhead import LowOverheadModule
from expflow.tasks.mean_accumulator import MeanAccumulator


class MeasuredTask(LowOverheadModule):
    """Sums what its batches count on the device, and logs the metrics of the sums once an epoch.

    ``train/*`` are of train mode while the weights change, ``val/*`` of eval mode; both are over all ranks. A task adds
    each batch to ``_epoch_means``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch_means, self._train_means = MeanAccumulator(), MeanAccumulator()
        self._ranks = 1
        self._feature_distance: FeatureDistance | None = None

    @abstractmethod
    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """The metrics of an epoch, by name without the split.

        Args:
            sums: What :meth:`MeanAccumulator.total` gives, over all ranks.
        """

    def compare_by(self, distance: FeatureDistance) -> None:
        """Have validation compare made images with real ones in the features of a classifier.

        Args:
            distance: What compares them; its classifier is no part of this module.
        """
        self._feature_distance = distance

    def compare(self, real_bchw: Tensor, made_bchw: Tensor, valid_b: Tensor) -> None:
        """Add a batch of a validation to the distance in features; nothing happens without a classifier.

        Args:
            real_bchw: Images of val, from 0 to 255.
            made_bchw: As many made ones, from 0 to 1.
            valid_b: (b,), false for padding.
        """
        if self._feature_distance is not None:
            self._feature_distance.add(real_bchw, made_bchw * 255, valid_b)

    def _feature_distances(self) -> Mapping[str, Tensor]:
        """The distances over the images of all ranks since the last call; empty without a classifier."""
        if self._feature_distance is None:
            return {}
        rows = self._feature_distance.take()
        gathered: Any = self.all_gather(rows)
        return self._feature_distance.measured(gathered.reshape(-1, rows.shape[1]))

    def _log_means(self, prefix: str) -> None:
        """Log the epoch's metrics over all ranks as ``prefix/name``, and begin anew."""
        total, self._epoch_means = self._epoch_means.total(), MeanAccumulator()
        if total is not None:
            sums: Any = self.trainer.strategy.reduce(total, reduce_op="sum")
            self.log_dict({f"{prefix}/{name}": value for name, value in self.measured(sums).items()})

    def on_train_start(self) -> None:
        """Stores how many ranks there are."""
        self._ranks = self.trainer.world_size

    def _over_ranks(self, loss: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """``loss``, ``weight`` of this rank -> a loss whose mean over ranks is that of all they have, and all weights.

        DDP averages the gradients of ranks as if each had as much; a batch with padding has less on some.
        """
        if self._ranks == 1:
            return loss, weight
        total = weight.clone()
        torch.distributed.all_reduce(total)  # Lightning's reduce begins with a barrier, which waits for the device
        return loss * (weight * self._ranks / total.clamp(min=1)), total

    def on_validation_start(self) -> None:
        """Sets the training means aside: validation happens inside of a training epoch."""
        self._train_means, self._epoch_means = self._epoch_means, MeanAccumulator()

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/*``, among them distances in features, and takes the training means up again."""
        self.log_dict({f"val/{name}": value for name, value in self._feature_distances().items()})
        self._log_means("val")
        self._epoch_means = self._train_means

    def on_train_epoch_end(self) -> None:
        """Logs ``train/*``."""
        self._log_means("train")

    def epoch_state(self) -> dict[str, Any]:
        """The training means of the epoch so far, for a checkpoint within it."""
        return self._epoch_means.state_dict()

    def load_epoch_state(self, state: dict[str, Any]) -> None:
        """Takes the means of an epoch up again.

        Args:
            state: What :meth:`epoch_state` returned.
        """
        self._epoch_means = MeanAccumulator.from_state_dict(state, self.device)
