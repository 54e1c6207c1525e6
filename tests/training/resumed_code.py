"""Modules of a user's whose course depends on everything that a checkpoint must hold."""

import os
import signal
from typing import Any, ClassVar

import torch
import torchmetrics
from pytorch_lightning import LightningModule
from torch import nn

from tests.training import user_code


class Dropped(nn.Module):
    """Draws random numbers in every step. ``killed_at``: the forward pass in training at which the process dies."""

    killed_at = 0

    def __init__(self, num_classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, num_classes)
        )
        self._passes = 0

    def forward(self, x):
        self._passes += self.training
        if self.killed_at and self._passes == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(x)


class Measuring(LightningModule):
    """Logs as users do: running means, sums and extremes within the epoch, and a metric of torchmetrics."""

    def __init__(self):
        super().__init__()
        self.net = Dropped(10)
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(10, average="micro")
        self.validated = torchmetrics.classification.MulticlassAccuracy(10, average="micro")

    def training_step(self, batch, batch_idx):
        scores = self.net(batch["image"] / 255)
        loss = nn.functional.cross_entropy(scores, batch["label"])
        self.accuracy(scores, batch["label"])
        self.log("train/accuracy", self.accuracy, on_step=False, on_epoch=True)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/most", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.log("train/sum", loss, on_step=False, on_epoch=True, reduce_fx="sum")
        if batch_idx % 2:
            self.log("train/odd", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self):
        if self.current_epoch == 0:
            self.log("train/once", 1.5)

    def validation_step(self, batch, batch_idx):
        self.validated(self.net(batch["image"] / 255), batch["label"])
        self.log("val/top1", self.validated)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class OnPlateau(Measuring):
    """Its rate falls at the end of every epoch, by Lightning's own way."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0, threshold=10.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "train/loss"}}


class OnCosine(Measuring):
    """Its schedule asks the trainer how long the training is."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]


class Rated(Measuring):
    """Remembers what each of its trainings began with: weights, rate and weight decay."""

    seen: ClassVar[list[Any]] = []

    def __init__(self, rate: float, decay: float):
        super().__init__()
        self.settings = {"lr": rate, "weight_decay": decay}

    def on_train_batch_start(self, batch, batch_idx):
        if batch_idx == 0:
            group = self.optimizers().param_groups[0]
            weights = {name: value.clone() for name, value in self.state_dict().items()}
            self.seen.append((weights, group["lr"], group["weight_decay"]))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), momentum=0.9, **self.settings)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)]


class ByHand(LightningModule):
    """Two networks, two optimizers, manual optimisation."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.one, self.two = Dropped(10), Dropped(10)

    def training_step(self, batch, batch_idx):
        for net, optimizer in zip((self.one, self.two), self.optimizers(), strict=True):
            loss = nn.functional.cross_entropy(net(batch["image"] / 255), batch["label"])
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.log("train/two", loss, on_step=False, on_epoch=True)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self.two(batch["image"] / 255), batch["label"]))

    def configure_optimizers(self):
        return [torch.optim.Adam(self.one.parameters()), torch.optim.SGD(self.two.parameters(), 0.1, momentum=0.9)]


class NanAtSix(Measuring):
    """Its loss is not a number at step 6."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.global_step == 5 else loss


class Opinion:
    """Something that is neither tensor nor plain data."""

    def __init__(self, value=0):
        self.value = value


class KeepsAnObject(user_code.Plain):
    """Puts an object of its own into its checkpoint."""

    def on_save_checkpoint(self, checkpoint):
        checkpoint["mine"] = Opinion(3)
