"""Generative adversarial networks (Goodfellow et al. 2014, "Generative Adversarial Nets", algorithm 1).

A generator G makes images G(z) of noise z ~ N(0, 1); a discriminator D tells them from images x of the data. For each
batch D minimises its loss on x and on G(z), then G minimises its own on the same G(z), by the D that has just moved.

z belongs to the image beside which G(z) stands: it follows from the trial's seed, the epoch and the image's number, so
ranks draw what one rank would; that of validation is the same in all epochs and trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.adversarial import DISCRIMINATOR, GENERATOR, AdversarialTask, check_made, check_networks
from expflow.tasks.adversarial_specs import GANSpec
from expflow.tasks.base import Batch, check_fields
from expflow.tasks.keyed_noise import FIXED, keyed_normal, sample_keys
from expflow.tasks.sliced_distance import SlicedDistance, sliced_distance

IMAGE = "image"

VALIDATION_SEED = 2014
"""Of the noise that validation makes images of, in all trials."""


class GAN(AdversarialTask):
    """Trains a generator of images against a discriminator.

    Measures both losses, and on val the sliced Wasserstein distance between its images and as many made ones.

    Args:
        data_spec: The images.
        model: ``generator``, (b, latent) -> (b, c, h, w) from -1 to 1, with an attribute ``latent``; and
            ``discriminator``, (b, c, h, w) -> (b, …) logits.
        optimizer: Factory of the optimizers.
        schedule: Factory of their schedules.
        spec: What the user chose.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.ModuleDict,
        optimizer: OptimizerFactory | Mapping[str, OptimizerFactory],
        schedule: ScheduleFactory | Mapping[str, ScheduleFactory],
        spec: GANSpec,
    ) -> None:
        super().__init__(model, optimizer, schedule, spec, spec.n_critic)
        self.generator, self.discriminator = model[GENERATOR], model[DISCRIMINATOR]
        latent: Any = self.generator.latent
        self._latent, self._samples = int(latent), spec.samples
        self._shape = data_spec.image_shape
        channels, height, width = self._shape
        self._distance = SlicedDistance(channels * height * width)

    def players(self) -> Mapping[str, nn.Module]:
        """The two networks."""
        return {GENERATOR: self.generator, DISCRIMINATOR: self.discriminator}

    def forward(self, noise_bz: Tensor) -> Tensor:
        """(b, latent) noise -> (b, c, h, w) images from 0 to 1."""
        return (self._generated(noise_bz) + 1) / 2

    def served_inputs(self, batch: Batch) -> Tensor:
        """(b, latent) noise, of which a model that is served makes images.

        Args:
            batch: A batch of images.
        """
        return self._noise(batch, VALIDATION_SEED, FIXED)

    def _generated(self, noise_bz: Tensor) -> Tensor:
        return check_made(self.generator, self.generator(noise_bz), (noise_bz.shape[0], *self._shape))

    def made(self, batch: Batch, batch_idx: int) -> Mapping[str, Tensor]:
        """``image`` (b, c, h, w), made of this batch's noise."""
        return {IMAGE: self._generated(self._noise(batch, self._seed, self.current_epoch))}

    def _noise(self, batch: Batch, seed: int, epoch: int) -> Tensor:
        """(b, latent) normal numbers, those of each sample its own."""
        return keyed_normal(sample_keys(batch, seed, epoch), (self._latent,), 0)

    def discriminator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() of D, on real and on made images."""
        return self.real_and_made_loss(self.discriminator, self.scaled(batch[IMAGE]), made[IMAGE], batch["valid"])

    def generator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() of G, on made images."""
        return self.deceived_loss(self.discriminator, made[IMAGE], batch["valid"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums, and its projections to the distance."""
        made = {IMAGE: self._generated(self._noise(batch, VALIDATION_SEED, FIXED))}
        self._distance.add(self.scaled(batch[IMAGE]), made[IMAGE], batch["valid"])
        self.compare(batch[IMAGE], (made[IMAGE] + 1) / 2, batch["valid"])
        self.validation_losses(batch, made)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/*``, the distance over the images of all ranks."""
        rows = self._distance.take()
        gathered: Any = self.all_gather(rows)
        self.log("val/swd", sliced_distance(gathered.reshape(-1, rows.shape[1])), rank_zero_only=False)
        super().on_validation_epoch_end()

    def draw_samples(self, generator: torch.Generator) -> Tensor:
        """(samples, c, h, w) images from 0 to 1, of the same noise at each validation."""
        noise = torch.randn(self._samples, self._latent, generator=generator)
        return self(noise.to(self.device))


def build(
    spec: GANSpec,
    data_spec: DataSpec,
    *,
    model: nn.ModuleDict,
    optimizer: Any,
    schedule: Any,
) -> GAN:
    """The task gan, on images.

    Args:
        spec: What the user chose.
        data_spec: The images.
        model: Generator and discriminator.
        optimizer: Factory of the optimizers.
        schedule: Factory of their schedules.

    Raises:
        UserError: A network is missing, the generator has no ``latent``, or the data have no images.
    """
    check_networks(spec, model)
    check_fields(spec.name, data_spec, IMAGE)
    if not hasattr(model[GENERATOR], "latent"):
        raise UserError(
            f"the generator {type(model[GENERATOR]).__name__} has no attribute `latent`, the length of the noise that"
            " it takes; give it one"
        )
    return GAN(data_spec, model, optimizer, schedule, spec)
