"""What tasks have in common in which images are learned: pixels are the parameters, a trained classifier the judge."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch
from expflow.tasks.layer_features import LayerFeatureTask, PictureChoice
from expflow.tasks.measured_task import MeasuredTask
from expflow.tasks.style_specs import ImageParameterSpec

NOISE = 0.05
"""Standard deviation of the noise that images begin with, beside a range of 1 from black to white."""

CONTENT = "content"
"""Name of the pictures that images are changes of."""


class ImageParameterTask(MeasuredTask, LayerFeatureTask):
    """Learns a few images of val by their pixels. A task says what of them is minimised, and what is shown.

    A step moves all images, whatever its batch holds; pixels are kept from 0 to 1. What is minimised is the sum over
    images, so that none has to do with the others, and what is logged the mean. ``val/*`` and ``test/*`` are of these
    images as well: nothing is learned that other images could have. Which ones they are follows from the trial's seed.

    Args:
        data_spec: The images.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    content: Tensor

    def __init__(
        self, data_spec: DataSpec, optimizer: OptimizerFactory, schedule: ScheduleFactory, spec: ImageParameterSpec
    ) -> None:
        super().__init__()
        self._optimizer, self._schedule, self._begin = optimizer, schedule, spec.begin
        self._shape = data_spec.image_shape
        grey = 0.5 + NOISE * torch.randn(spec.images, *self._shape)
        self.images = nn.Parameter(grey.clamp(0, 1))
        self.register_buffer(CONTENT, torch.zeros(spec.images, *self._shape, dtype=torch.uint8))

    @abstractmethod
    def values(self, image_nchw: Tensor) -> Tensor:
        """(k, n): what is minimised of each image, and what else is summed.

        Args:
            image_nchw: The images, from 0 to 1.
        """

    def picture_choices(self) -> Mapping[str, PictureChoice]:
        """The images of val that are changed."""
        return {CONTENT: PictureChoice("images", "val", len(self.images), drawn=True)}

    def take_pictures(self, name: str, image_nchw: Tensor) -> None:
        """Keep pictures; the images begin as the contents where the recipe says so."""
        getattr(self, name).copy_(image_nchw)
        if name == CONTENT and self._begin == CONTENT:
            with torch.no_grad():
                self.images.copy_(image_nchw.float() / 255)

    def _add(self) -> Tensor:
        """Adds the images to the epoch's sums; returns the sum () of what is minimised."""
        first, *others = self.values(self.images)
        number = torch.tensor(len(first), device=first.device)
        self._epoch_means.add(number, first.detach().mean(), torch.stack([value.detach().sum() for value in others]))
        return first.sum()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """() what is minimised, of all images; the batch is not looked at."""
        return self._add()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keeps the pixels from black to white."""
        with torch.no_grad():
            self.images.clamp_(0, 1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measures the images once in a validation."""
        if batch_idx == 0:
            self._add()

    def draw_samples(self, generator: torch.Generator) -> Tensor:
        """(n, 2, c, h, w): each image as it is in val, and what has become of it.

        Args:
            generator: Not used: nothing is random.
        """
        return torch.stack([self.content.float() / 255, self.images.detach()], 1)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer of the pixels, its schedule moved once a step."""
        optimizer = self._optimizer(self)
        total_steps = int(self.trainer.estimated_stepping_batches)
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        schedule = self._schedule(optimizer, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
