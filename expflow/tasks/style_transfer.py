"""Style transfer (Gatys et al. 2016, "Image Style Transfer Using Convolutional Neural Networks").

Pixels of images are moved until a trained classifier gives at one layer what it gives for their contents, and at some
layers the correlations of maps (Gram matrices) that it gives for the images of a style. Losses are divided by the sizes
of maps as in Johnson et al. 2016, so that their weights mean the same at any size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import check_fields, check_one_of_each
from expflow.tasks.image_parameters import CONTENT, ImageParameterTask
from expflow.tasks.layer_features import LayerFeatures, PictureChoice
from expflow.tasks.style_losses import StyleLosses
from expflow.tasks.style_specs import StyleSpec, StyleTransferSpec

STYLE = "style"
"""Name of the pictures that have the style."""


def style_choice(spec: StyleSpec) -> PictureChoice:
    """Which pictures have the style.

    Args:
        spec: What the user chose.
    """
    return PictureChoice(STYLE, "train", spec.style_images, of=spec.style)


def check_style(spec: StyleSpec, data_spec: DataSpec) -> None:
    """Require that the data have the class of the style, and others.

    Args:
        spec: What the user chose.
        data_spec: The data.

    Raises:
        UserError: They have no images with classes, or not this one.
    """
    check_fields(spec.name, data_spec, "image", "label")
    if spec.style not in data_spec.classes:
        there = ", ".join(data_spec.classes[:20]) + (", …" if len(data_spec.classes) > 20 else "")
        raise UserError(f"task.style: there is no class {spec.style!r}; there are {there}")


class StyleTransfer(ImageParameterTask):
    """Moves the pixels of images towards a style; measures how far they are from their contents and from the style.

    Args:
        data_spec: The images and their classes.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    style: Tensor

    def __init__(
        self, data_spec: DataSpec, optimizer: OptimizerFactory, schedule: ScheduleFactory, spec: StyleTransferSpec
    ) -> None:
        super().__init__(data_spec, optimizer, schedule, spec)
        self._spec, self._losses = spec, StyleLosses(spec)
        self._targets: tuple[Tensor, list[Tensor]] | None = None
        self.register_buffer(STYLE, torch.zeros(spec.style_images, *self._shape, dtype=torch.uint8))

    def look_through(self, features: LayerFeatures) -> None:
        """Take the classifier."""
        layers = {"content_layer": [self._spec.content_layer], "style_layers": self._spec.style_layers}
        features.check(self._shape, layers, dims=4)
        super().look_through(features)

    def picture_choices(self) -> Mapping[str, PictureChoice]:
        """Images of val of other classes, and the style's."""
        contents = PictureChoice("images", "val", len(self.images), but=self._spec.style, drawn=True)
        return {CONTENT: contents, STYLE: style_choice(self._spec)}

    def values(self, image_nchw: Tensor) -> Tensor:
        """(3, n): the loss, of the content and of the style."""
        if self._targets is None:  # of the pictures that a checkpoint has brought, where there was one
            content = self._losses.content_target(self.features, self.content)
            self._targets = content, self._losses.style_targets(self.features, self.style)
        return self._losses.of(self.features, image_nchw, *self._targets)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``, ``content_loss`` and ``style_loss``, means over images."""
        return dict(zip(StyleLosses.NAMES, sums[1:] / sums[0], strict=True))

    def draw_samples(self, generator: torch.Generator) -> Tensor:
        """(n, 3, c, h, w): each image as it is in val, the style's first picture, and what has become of the image."""
        pairs = super().draw_samples(generator)
        style = (self.style[:1].float() / 255).expand_as(pairs[:, 0])
        return torch.stack([pairs[:, 0], style, pairs[:, 1]], 1)


def build(
    spec: StyleTransferSpec, data_spec: DataSpec, *, optimizer: OptimizerFactory, schedule: ScheduleFactory
) -> StyleTransfer:
    """The task style_transfer, on images with classes.

    Args:
        spec: What the user chose.
        data_spec: The images and their classes.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images of the style's class.
    """
    check_one_of_each(spec.name, optimizer=optimizer, schedule=schedule)
    check_style(spec, data_spec)
    return StyleTransfer(data_spec, optimizer, schedule, spec)
