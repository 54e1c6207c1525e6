"""A folder of photographs of many sizes, and experiments on them whose samples are streamed, cropped and mixed."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import LightningModule
from sklearn.datasets import load_sample_images
from torch import nn

FILE = """\
about: {{question: Does a cut change what is learned from photographs?}}
data:
  name: folder
  path: photographs
  stored: original
  image_size: 16
  batch_size: 8
  workers: 2
  val_fraction: 0.2
  test_fraction: 0.2
  {data}
model: {{name: resnet, layout: cifar, depth: 8, width: 4}}
task: classification
loss: {{name: cross_entropy, label_smoothing: 0.1}}
optimizer: {{name: sgd, lr: 0.05, momentum: 0.9}}
schedule: {{name: cosine, warmup_epochs: 1}}
trainer: {{{trainer}}}
"""
AUGMENTED = "train: {random_resized_crop: {scale: [0.3, 1]}, flip: 0.5, mixup: 0.2, cutmix: 1.0}"
"""All that is random on the way of a sample, and on that of a batch."""
CAREFUL = "epochs: 2, ema: 0.9, checkpoint: {every_steps: 1}"


def make_folder(folder: Path) -> None:
    """Pieces of two photographs, of different sizes and shapes: 36 of each."""
    rng = np.random.default_rng(0)
    for label, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        place = folder / "photographs" / label
        place.mkdir(parents=True)
        for number in range(36):
            height, width = (int(size) for size in rng.integers(24, 60, 2))
            top, left = (int(rng.integers(0, most)) for most in (pixels.shape[0] - 60, pixels.shape[1] - 60))
            piece = Image.fromarray(pixels[top : top + height, left : left + width])
            buffer = io.BytesIO()
            piece.save(buffer, "JPEG", quality=90)
            (place / f"{number:02d}.jpg").write_bytes(buffer.getvalue())


def written(folder: Path, name: str = "photos", data: str = AUGMENTED, trainer: str = CAREFUL, **lines: str) -> Path:
    """The experiment file; ``lines`` maps a key of one line to its content, "" to leave it out."""
    text = FILE.format(data=data, trainer=trainer)
    for key, value in lines.items():
        text = re.sub(rf"^{key}: .*\n", f"{key}: {value}\n" if value else "", text, flags=re.MULTILINE)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


class Seeing(LightningModule):
    """Writes which samples each step was given, by epoch and batch, and what they looked like."""

    def __init__(self, path: str):
        super().__init__()
        self.path, self.weight = path, nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        line = {
            "rank": self.global_rank,
            "epoch": self.current_epoch,
            "batch": batch_idx,
            "ids": batch["index"][batch["valid"]].tolist(),
            "pixels": batch["image"].double().sum().item(),
            "kinds": [str(batch["image"].dtype), str(batch["label"].dtype), list(batch["label"].shape)],
        }
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        return self.weight * 0.0

    def validation_step(self, batch, batch_idx):
        self.log("val/seen", float(batch["valid"].sum()), reduce_fx="sum", sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Shorted(nn.Module):
    """A small network; the environment says at which forward pass in training it sends its process which signal."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Linear(16, num_classes)
        self._passes = 0

    def forward(self, x):
        self._passes += self.training
        at, number = os.environ.get("SHORTED", "0 0").split()
        if int(at) and self._passes == int(at):
            os.kill(os.getpid(), int(number))
        return self.head(self.layers(x))
