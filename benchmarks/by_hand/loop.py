"""The loop by hand: residual networks on digits, which lie in memory, with SGD and a one-cycle schedule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from expflow.architectures import build
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.data.dataspec import DataSpec
from expflow.data.specs import DigitsSpec
from expflow.data.streaming.loader import loader_for

Split = tuple[torch.Tensor, torch.Tensor]
"""Images (n, channels, height, width), 0 to 255, and their labels (n)."""


@dataclass(frozen=True)
class Digits:
    """The images in memory, and how they are normalised.

    Attributes:
        train: What is trained on.
        val: What is evaluated on.
        spec: Shape, classes, mean and deviation.
    """

    train: Split
    val: Split
    spec: DataSpec

    @classmethod
    def load(cls, root: Path, spec: DataSpec) -> Digits:
        """Read prepared shards."""
        return cls(_whole(root, "train"), _whole(root, "val"), spec)

    def normalised(self, image: torch.Tensor) -> torch.Tensor:
        """A batch as networks take it."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) * 255 for values in (self.spec.mean, self.spec.std))
        return (image - mean) / std


def _whole(root: Path, split: str) -> Split:
    batch = next(iter(loader_for(DigitsSpec(name="digits", batch_size=2000), root, split, seed=0, shuffle=False)))
    return batch["image"], batch["label"]


def network_of(model: ResNetSpec, digits: Digits) -> nn.Module:
    """The network, in the memory format in which both sides train it."""
    return build(model, digits.spec).to(memory_format=torch.channels_last)


def train(
    model: ResNetSpec, digits: Digits, *, batch: int, epochs: int, lr: float = 0.05, validate_every: int, seed: int = 0
) -> tuple[float, float]:
    """Train, evaluate on val every few epochs, and on the training set at the end; its loss and top-1."""
    torch.manual_seed(seed)
    images, labels = digits.train
    network = network_of(model, digits)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4, fused=True)
    steps = epochs * -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1)
    mean, std = (torch.tensor(values).view(-1, 1, 1) * 255 for values in (digits.spec.mean, digits.spec.std))
    for epoch in range(1, epochs + 1):
        network.train()
        total, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for chosen in torch.randperm(len(images)).split(batch):
            image, label = images[chosen], labels[chosen]
            scores = network((image - mean) / std)
            loss = criterion(scores, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(label)
            hits += (scores.argmax(1) == label).sum()
        total.item(), hits.item()
        if epoch % validate_every == 0:
            evaluate(network, criterion, batches(digits, digits.val, batch))
    return evaluate(network, criterion, batches(digits, digits.train, batch))


def batches(digits: Digits, split: Split, batch: int) -> Iterable[Split]:
    """Normalised batches in order."""
    for image, label in zip(split[0].split(batch), split[1].split(batch), strict=True):
        yield digits.normalised(image), label


@torch.inference_mode()
def evaluate(network: nn.Module, criterion: nn.Module, data: Iterable[Split]) -> tuple[float, float]:
    """Mean loss and top-1."""
    network.eval()
    total = hits = count = 0.0
    for image, label in data:
        scores = network(image)
        total += criterion(scores, label).item() * len(label)
        hits += (scores.argmax(1) == label).sum().item()
        count += len(label)
    return total / count, hits / count
