"""Statistics of batch norms, taken anew: those of an average of weights belong to no network that was trained."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCHES = 200
"""Batches that the statistics are taken on, at most: their mean is then known far better than it has to be."""


def batch_norms(task: nn.Module) -> list[_BatchNorm]:
    """The norms of ``task`` that keep running statistics."""
    return [each for each in task.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]


def keeps_statistics(task: nn.Module) -> bool:
    """Whether any norm of ``task`` keeps running statistics."""
    return bool(batch_norms(task))


class Restating(Callback):
    """Lets a validation over training batches set the running statistics to the plain mean over these batches.

    Only the norms are in train mode. torch's ``update_bn`` has the whole network in it, with dropout at work, and the
    statistics are then those of other activations than evaluation meets (Li et al., variance shift, 2019).
    """

    batches = BATCHES

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the statistics; from here on batches count alike."""
        self._momenta: list[tuple[_BatchNorm, Any]] = []
        for each in batch_norms(pl_module):
            self._momenta.append((each, each.momentum))
            each.reset_running_stats()
            each.momentum = None  # torch then takes the mean over all batches
            each.train()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As before."""
        for each, momentum in self._momenta:
            each.momentum = momentum
            each.eval()
