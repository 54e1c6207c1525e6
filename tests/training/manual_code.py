"""Modules that move their optimizers themselves, in different orders."""

from typing import ClassVar

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import Callback
from torch import nn


class Players(LightningModule):
    """Two networks on eight images; ``order`` says which of them moves in which batch."""

    def __init__(self, order: str = "together", lr: float = 0.01):
        super().__init__()
        self.automatic_optimization = False
        self.order, self.lr = order, lr
        self.first, self.second = nn.Linear(64, 1), nn.Linear(64, 1)
        self.steps: list[int] = []

    def moving(self, batch_idx):
        """Indices of the optimizers, in order, as often as they move."""
        return {
            "together": [0, 1],
            "first_twice": [0, 0, 1],
            "second_every_third": [0] if batch_idx % 3 else [0, 1],
            "in_turns": [batch_idx % 2],
            "second_later": [0] if self.current_epoch == 0 else [0, 1],
            "one_after_the_other": [min(self.current_epoch, 1)],
            "never": [],
        }[self.order]

    def training_step(self, batch, batch_idx):
        self.steps.append(self.global_step)
        optimizers, networks = self.optimizers(), (self.first, self.second)
        for index in self.moving(batch_idx):
            optimizers[index].zero_grad()
            loss = networks[index](batch["image"].flatten(1) / 255).square().mean()
            self.manual_backward(loss)
            optimizers[index].step()
            self.log(f"loss{index}", loss)
        self.steps.append(self.global_step)

    def validation_step(self, batch, batch_idx):
        self.log("val_first", self.first(batch["image"].flatten(1) / 255).mean())

    def configure_optimizers(self):
        return [torch.optim.SGD(network.parameters(), lr=self.lr) for network in (self.first, self.second)]


class Counting(Callback):
    """Writes the step after each batch, as any callback sees it."""

    seen: ClassVar[list[int]] = []

    def on_train_start(self, trainer, pl_module):
        Counting.seen = []

    def on_train_batch_end(self, trainer, pl_module, *arguments):
        Counting.seen.append(trainer.global_step)
