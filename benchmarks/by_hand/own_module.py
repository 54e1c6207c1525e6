"""A LightningModule and a data module as their users write them, without a word of expflow, and the same by hand."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 26
TRAIN = 1300


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Images (n, width, height, width of the image)."""
        return torch.relu(image + self.layers(image))


def network(width: int = 16, blocks: int = 5) -> nn.Module:
    """A small residual network."""
    stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    return nn.Sequential(stem, *(Block(width) for _ in range(blocks)), head)


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Loaders of train and val."""
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images / 16 - 0.3, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)
    train, val = (TensorDataset(images[part], labels[part]) for part in (slice(TRAIN), slice(TRAIN, None)))
    return DataLoader(train, batch_size=BATCH, shuffle=True), DataLoader(val, batch_size=BATCH)


class Digits(pl.LightningDataModule):
    """The loaders, for Lightning."""

    def train_dataloader(self) -> DataLoader[Any]:
        """What is trained on."""
        return loaders()[0]

    def val_dataloader(self) -> DataLoader[Any]:
        """What is validated on."""
        return loaders()[1]


class Classifier(pl.LightningModule):
    """The network with its loss and optimizer, for Lightning."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.lr, self.net = lr, network()

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """One step; its loss is logged."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        """One batch; its top-1 is logged."""
        images, labels = batch
        self.log("val_top1", (self.net(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def train_by_hand(epochs: int, lr: float = 0.05) -> float:
    """The same training without Lightning, validated once, at its end: its top-1."""
    torch.manual_seed(0)
    train, val = loaders()
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        net.train()
        total = torch.zeros(())
        for images, labels in train:
            loss = nn.functional.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        total.item()
    net.eval()
    with torch.inference_mode():
        return sum(float((net(images).argmax(1) == labels).float().mean()) for images, labels in val) / len(val)
