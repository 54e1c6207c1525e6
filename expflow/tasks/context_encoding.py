"""Context encoders (Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting", section 3.2).

A network sees an image without its centre, a square of half the side, and predicts the centre. It minimises
(1 - a) L_rec + a L_adv (equation 4): the mean squared difference, and how little a discriminator takes the centre for
real, which sees centres alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.tasks.adversarial import DISCRIMINATOR, GENERATOR, AdversarialTask, check_made, check_networks
from expflow.tasks.adversarial_losses import mean_per_image, valid_mean
from expflow.tasks.adversarial_specs import ContextEncoderTaskSpec
from expflow.tasks.base import Batch, check_fields
from expflow.tasks.image_metrics import reconstruction_metrics, reconstruction_sums
from expflow.tasks.samples import FirstSamples

IMAGE = "image"

OVERLAP_WEIGHT = 10.0
"""How much more differences count where the prediction overlaps what is seen (section 3.2)."""


class ContextEncoding(AdversarialTask):
    """Trains a network to predict the centre of images; measures how far it lies from the true one, and the losses.

    Args:
        data_spec: The images.
        model: ``generator``, (b, c, h, w) -> (b, c, h / 2, w / 2), and ``discriminator``, (b, c, h / 2, w / 2) ->
            (b, …) logits. Images are from -1 to 1.
        optimizer: Factory of the optimizers.
        schedule: Factory of their schedules.
        spec: What the user chose.
    """

    _filling: Tensor
    _weights: Tensor

    def __init__(
        self, data_spec: DataSpec, model: nn.ModuleDict, optimizer: Any, schedule: Any, spec: ContextEncoderTaskSpec
    ) -> None:
        super().__init__(model, optimizer, schedule, spec)
        self.generator, self.discriminator = model[GENERATOR], model[DISCRIMINATOR]
        self._adversarial, self._overlap = spec.adversarial, spec.overlap
        height, width = data_spec.image_size
        self._size = height // 2, width // 2
        channels = data_spec.in_channels
        mean = torch.tensor(data_spec.mean or [0.5] * channels) * 2 - 1
        self.register_buffer("_filling", mean.view(-1, 1, 1), persistent=False)
        weights = torch.full(self._size, OVERLAP_WEIGHT)
        _inner(weights[None, None], spec.overlap).fill_(1.0)
        self.register_buffer("_weights", weights, persistent=False)
        self._first = FirstSamples(spec.samples, IMAGE)

    def players(self) -> Mapping[str, nn.Module]:
        """The two networks."""
        return {GENERATOR: self.generator, DISCRIMINATOR: self.discriminator}

    def centre(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> the view (b, c, h / 2, w / 2) of the middle.

        Args:
            image_bchw: Images.
        """
        (height, width), (tall, wide) = image_bchw.shape[2:], self._size
        top, left = (height - tall) // 2, (width - wide) // 2
        return image_bchw[:, :, top : top + tall, left : left + wide]

    def holed(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) images from -1 to 1 -> the same with the data's mean in their hole.

        Args:
            image_bchw: Images.
        """
        holed = image_bchw.clone()
        _inner(self.centre(holed), self._overlap).copy_(self._filling)
        return holed

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, c, h / 2, w / 2) predicted centres from 0 to 1."""
        return (self._predicted(self.scaled(image_bchw)) + 1) / 2

    def _predicted(self, image_bchw: Tensor) -> Tensor:
        made = self.generator(self.holed(image_bchw))
        return check_made(self.generator, made, (*image_bchw.shape[:2], *self._size))

    def made(self, batch: Batch, batch_idx: int) -> Mapping[str, Tensor]:
        """``centre`` (b, c, h / 2, w / 2)."""
        return {"centre": self._predicted(self.scaled(batch[IMAGE]))}

    def discriminator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() of D on true and on predicted centres."""
        real = self.centre(self.scaled(batch[IMAGE]))
        return self.real_and_made_loss(self.discriminator, real, made["centre"], batch["valid"])

    def generator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() (1 - a) of the squared difference and a of the adversarial loss."""
        difference = (made["centre"] - self.centre(self.scaled(batch[IMAGE]))).square() * self._weights
        loss = (1 - self._adversarial) * valid_mean(mean_per_image(difference), batch["valid"])
        if self._adversarial == 0:
            return loss
        return loss + self._adversarial * self.deceived_loss(self.discriminator, made["centre"], batch["valid"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums."""
        self._first.follow(batch, batch_idx)
        made = self.made(batch, batch_idx)
        sums = reconstruction_sums((made["centre"] + 1) / 2, self.centre(batch[IMAGE] / 255), batch["valid"])
        self.validation_losses(batch, made, sums)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """Both losses, and in validation :func:`~expflow.tasks.image_metrics.reconstruction_metrics` of centres."""
        distances = reconstruction_metrics(sums[4:], sums[0]) if len(sums) > 4 else {}
        return {**super().measured(sums), **distances}

    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """(images, 3, c, h, w): the first images of val with their hole, with what is predicted, and as they are."""
        image = self._first.field(IMAGE)
        if image is None:
            return None
        scaled = self.scaled(image)
        completed = scaled.clone()
        self.centre(completed).copy_(self._predicted(scaled))
        return (torch.stack([self.holed(scaled), completed, scaled], 1) + 1) / 2


def _inner(centre_bchw: Tensor, overlap: int) -> Tensor:
    """The view of a centre without the pixels at its edge that the network sees."""
    height, width = centre_bchw.shape[2:]
    return centre_bchw[:, :, overlap : height - overlap, overlap : width - overlap]


def build(
    spec: ContextEncoderTaskSpec, data_spec: DataSpec, *, model: nn.ModuleDict, optimizer: Any, schedule: Any
) -> ContextEncoding:
    """The task context_encoder, on images.

    Args:
        spec: What the user chose.
        data_spec: The images.
        model: Generator and discriminator.
        optimizer: Factory of the optimizers.
        schedule: Factory of their schedules.

    Raises:
        UserError: A network is missing, the data have no images, or the overlap leaves no hole.
    """
    check_networks(spec, model)
    check_fields(spec.name, data_spec, IMAGE)
    smallest = min(data_spec.image_size) // 2
    if smallest <= 2 * spec.overlap:
        raise UserError(f"task.overlap: {spec.overlap} pixels at each edge leave nothing of a hole of {smallest}")
    return ContextEncoding(data_spec, model, optimizer, schedule, spec)
