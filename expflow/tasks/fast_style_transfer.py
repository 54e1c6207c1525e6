"""Style transfer by a network (Johnson et al. 2016, "Perceptual Losses for Real-Time Style Transfer").

The losses are those of :mod:`~expflow.tasks.style_transfer`; a network learns to make of any image one that has them
small, so that a new image takes one pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_one_of_each, own_loss
from expflow.tasks.layer_features import LayerFeatures, LayerFeatureTask, PictureChoice
from expflow.tasks.samples import FirstSamples
from expflow.tasks.style_losses import StyleLosses
from expflow.tasks.style_specs import FastStyleTransferSpec
from expflow.tasks.style_transfer import STYLE, check_style, style_choice

HALF_RANGE = 127.5
"""Bytes are scaled by it to -1 to 1, the range of the hyperbolic tangent that ends the paper's network."""


class FastStyleTransfer(ImageTask, LayerFeatureTask):
    """Trains a network to give images a style; measures how far its images are from their contents and the style.

    Images of the style's own class are neither trained nor measured on.

    Args:
        data_spec: The images and their classes.
        model: The network, (b, c, h, w) -> (b, c, h, w), both from -1 to 1.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    style: Tensor

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.Module,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        spec: FastStyleTransferSpec,
    ) -> None:
        super().__init__(data_spec, model, own_loss, optimizer, schedule)
        self._spec, self._losses, self._shape = spec, StyleLosses(spec), data_spec.image_shape
        self._left_out = data_spec.classes.index(spec.style)
        self._target: list[Tensor] | None = None
        self._first = FirstSamples(spec.samples, "image")
        self.register_buffer(STYLE, torch.zeros(spec.style_images, *self._shape, dtype=torch.uint8))

    def look_through(self, features: LayerFeatures) -> None:
        """Take the classifier."""
        layers = {"content_layer": [self._spec.content_layer], "style_layers": self._spec.style_layers}
        features.check(self._shape, layers, dims=4)
        super().look_through(features)

    def picture_choices(self) -> Mapping[str, PictureChoice]:
        """The style's pictures."""
        return {STYLE: style_choice(self._spec)}

    def take_pictures(self, name: str, image_nchw: Tensor) -> None:
        """Keep the style's pictures."""
        self.style.copy_(image_nchw)

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, c, h, w) in the style, from 0 to 1."""
        output = self.model(image_bchw / HALF_RANGE - 1)
        if not isinstance(output, Tensor) or output.shape != image_bchw.shape:
            given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
            raise UserError(
                f"the network gives an output of {given} for images of shape {tuple(image_bchw.shape)}; the task"
                f" {self._spec.name} needs images of the same shape"
            )
        return (at_least_single(output) + 1) / 2

    def _add(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean loss (), and its images (); adds it to the epoch's sums."""
        if self._target is None:
            self._target = self._losses.style_targets(self.features, self.style)
        counted = self._counted(batch)
        content = self._losses.content_target(self.features, batch["image"])
        values = self._losses.of(self.features, self(batch["image"]), content, self._target)
        sums, number = values.masked_fill(~counted, 0).sum(1), counted.sum()
        loss = sums[0] / number.clamp(min=1)
        self._epoch_means.add(number, loss.detach(), sums[1:].detach())
        return loss, number

    def _counted(self, batch: Batch) -> Tensor:
        """(b,) whether an image counts: it is no padding, and not of the style."""
        return batch["valid"] & (batch["label"] != self._left_out)

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean loss (), and its images ()."""
        return self._add(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums."""
        self._first.follow({**batch, "valid": self._counted(batch)}, batch_idx)
        self._add(batch)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``, ``content_loss`` and ``style_loss``, means over images."""
        return dict(zip(StyleLosses.NAMES, sums[1:] / sums[0], strict=True))

    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """(n, 3, c, h, w): first images of val, the style's first picture, and what the network makes of them.

        Args:
            generator: Not used: nothing is random.
        """
        image = self._first.field("image")
        if image is None:
            return None
        pixels = image.float() / 255
        style = (self.style[:1].float() / 255).expand_as(pixels)
        return torch.stack([pixels, style, self(image)], 1)


def build(
    spec: FastStyleTransferSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> FastStyleTransfer:
    """The task fast_style_transfer, on images with classes.

    Args:
        spec: What the user chose.
        data_spec: The images and their classes.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images of the style's class.
    """
    check_one_of_each(spec.name, model=model, optimizer=optimizer, schedule=schedule)
    check_style(spec, data_spec)
    return FastStyleTransfer(data_spec, model, optimizer, schedule, spec)
