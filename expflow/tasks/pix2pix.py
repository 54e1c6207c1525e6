"""pix2pix (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks", section 3).

A generator G makes of a condition x an image G(x) that lies near the true image y and that a discriminator D takes for
real: G minimises w L_GAN + lambda |y - G(x)|, D half of its loss. D sees x beside the image, or (``sees: image``) not.

x is made of y, or of the mask that belongs to it, on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.tasks.adversarial import DISCRIMINATOR, GENERATOR, check_made, check_networks
from expflow.tasks.adversarial_losses import mean_per_image, valid_mean
from expflow.tasks.adversarial_specs import Pix2PixSpec
from expflow.tasks.base import Batch
from expflow.tasks.image_conditions import IMAGE, check_condition
from expflow.tasks.image_translation import ImageTranslation


class Pix2Pix(ImageTranslation):
    """Trains a generator to make images from conditions; measures how far they lie from the true ones, and the losses.

    Args:
        data_spec: The images.
        model: ``generator``, (b, c, h, w) -> (b, c, h, w), and ``discriminator``, (b, 2c, h, w) or, where its attribute
            ``sees`` is ``image``, (b, c, h, w) -> (b, …) logits. Images are from -1 to 1.
        optimizer: Factory of the optimizers.
        schedule: Factory of their schedules.
        spec: What the user chose.
    """

    def __init__(
        self, data_spec: DataSpec, model: nn.ModuleDict, optimizer: Any, schedule: Any, spec: Pix2PixSpec
    ) -> None:
        super().__init__(data_spec, model, optimizer, schedule, spec)
        self.generator, self.discriminator = model[GENERATOR], model[DISCRIMINATOR]
        self._l1, self._adversarial = spec.l1, spec.adversarial
        self._conditional = getattr(self.discriminator, "sees", "pair") == "pair"

    def players(self) -> Mapping[str, nn.Module]:
        """The two networks."""
        return {GENERATOR: self.generator, DISCRIMINATOR: self.discriminator}

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 conditions -> (b, c, h, w) images from 0 to 1."""
        return (self._translated(self.scaled(image_bchw)) + 1) / 2

    def _translated(self, condition_bchw: Tensor) -> Tensor:
        return check_made(self.generator, self.generator(condition_bchw), tuple(condition_bchw.shape))

    def made(self, batch: Batch, batch_idx: int) -> Mapping[str, Tensor]:
        """``image`` (b, c, h, w), and the ``condition`` that it was made from."""
        condition = self.condition(batch)
        return {IMAGE: self._translated(condition), "condition": condition}

    def _judged(self, image_bchw: Tensor, made: Mapping[str, Tensor]) -> Tensor:
        """What D looks at."""
        return torch.cat([made["condition"], image_bchw], 1) if self._conditional else image_bchw

    def discriminator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() half of D's loss on true and on made images."""
        real, fake = self._judged(self.scaled(batch[IMAGE]), made), self._judged(made[IMAGE], made)
        return self.real_and_made_loss(self.discriminator, real, fake, batch["valid"]) / 2

    def generator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() lambda times the mean absolute difference, and the adversarial loss by its factor."""
        difference = (made[IMAGE] - self.scaled(batch[IMAGE])).abs()
        loss = self._l1 * valid_mean(mean_per_image(difference), batch["valid"])
        if self._adversarial == 0:
            return loss
        return loss + self._adversarial * self.deceived_loss(
            self.discriminator, self._judged(made[IMAGE], made), batch["valid"]
        )

    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """(images, 3, c, h, w): conditions of the first images of val, what is made of them, and the true images."""
        batch = self.condition.first(self._first)
        if batch is None:
            return None
        condition = self.condition(batch)
        return torch.stack([(condition + 1) / 2, (self._translated(condition) + 1) / 2, batch[IMAGE] / 255], 1)


def build(spec: Pix2PixSpec, data_spec: DataSpec, *, model: nn.ModuleDict, optimizer: Any, schedule: Any) -> Pix2Pix:
    """The task pix2pix, on images.

    Args:
        spec: What the user chose.
        data_spec: The images, with masks where they are the condition.
        model: Generator and discriminator.
        optimizer: Factory of the optimizers.
        schedule: Factory of their schedules.

    Raises:
        UserError: A network is missing, the data lack a field, or grey images would be made of grey ones.
    """
    check_networks(spec, model)
    check_condition(spec.name, spec.condition, data_spec)
    return Pix2Pix(data_spec, model, optimizer, schedule, spec)
