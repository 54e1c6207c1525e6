"""Statistics of batch norms, measured anew: those of an average of weights belong to no network that was trained."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import nn

from expflow.training.batchnorm_base import BatchNormBase

BATCHES = 200
"""Batches that the statistics are taken on, at most: their mean is then known far better than it has to be."""


def batch_norms(task: nn.Module) -> list[BatchNormBase]:
    """The batch norms that keep running statistics.

    Args:
        task: The module that holds them, at any depth.
    """
    return [norm for norm in task.modules() if isinstance(norm, BatchNormBase) and norm.track_running_stats]


class BatchNormRecalibration(Callback):
    """Lets a validation over training batches set the running statistics to the plain mean over these batches.

    Only the norms are in train mode. torch's ``update_bn`` has the whole network in it, with dropout at work, and the
    statistics are then those of other activations than evaluation meets (Li et al., variance shift, 2019).
    """

    batches = BATCHES

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the statistics; from here on batches count alike."""
        self._momenta: list[tuple[BatchNormBase, Any]] = []
        for norm in batch_norms(pl_module):
            self._momenta.append((norm, norm.momentum))
            norm.reset_running_stats()
            norm.momentum = None  # torch then takes the mean over all batches
            norm.train()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Momenta and modes are as before."""
        for norm, momentum in self._momenta:
            norm.momentum = momentum
            norm.eval()
