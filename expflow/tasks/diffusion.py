"""Denoising diffusion (Ho et al. 2020, "Denoising Diffusion Probabilistic Models", DDPM).

Training (algorithm 1): noise eps is mixed into an image x_0 up to a random step t, and the network, given x_t and t, is
to name eps (or x_0), by mean squared error. Sampling walks back from noise alone, by the steps of DDIM (Song et al.
2021), of which fewer than all may be taken; with ``eta: 1`` and all of them it is the paper's algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_fields, check_one_of_each, own_loss
from expflow.tasks.generative_specs import DiffusionSpec
from expflow.tasks.image_metrics import gradient_energy
from expflow.tasks.keyed_noise import FIXED, keyed_normal, keyed_uniform, sample_keys
from expflow.tasks.noise_schedule import NoiseSchedule, sampling_times

TIMES, NOISE, BEGINNING = 1, 2, 3
"""Streams of random numbers of a sample."""

FEATURE_SEED = 2018
"""Of the noise of the images that are compared in features: one for all trials."""

SHARPNESS_SEED = 21
"""Of the noise of the images whose sharpness is measured: one for all trials."""


class Diffusion(ImageTask):
    """Trains a network to name the noise in an image; measures the loss at fixed steps and noise, and how sharp
    new images are beside those of the split.

    Images are scaled to -1 to 1, whatever the data's mean is.

    Args:
        data_spec: The images.
        model: The network, (b, c, h, w) and steps (b,) from 0 -> (b, c, h, w).
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule of the rate.
        spec: What the user chose.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.Module,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        spec: DiffusionSpec,
    ) -> None:
        super().__init__(data_spec, model, own_loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
        self._mean.fill_(255 / 2)
        self._std.fill_(255 / 2)
        self.noise = NoiseSchedule(spec.noise, spec.timesteps)
        self._spec, self._shape, self._seed = spec, data_spec.image_shape, torch.initial_seed()

    def _named(self, x_bchw: Tensor, t_b: Tensor) -> Tensor:
        """What the network makes of x_t and t. Raises UserError where that has another shape."""
        output = self.model(x_bchw, t_b)
        if not isinstance(output, Tensor) or output.shape != x_bchw.shape:
            given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
            raise UserError(
                f"the network gives an output of {given} for images of shape {tuple(x_bchw.shape)} and their steps; the"
                " task diffusion needs a tensor of the images' shape"
            )
        return at_least_single(output)

    def _errors(self, batch: Batch, epoch: int) -> Tensor:
        """(b,) mean squared error of what the network names, at one random step for each image."""
        x0 = (batch["image"] - self._mean) / self._std
        keys = sample_keys(batch, self._seed, epoch)
        t = (keyed_uniform(keys, (), TIMES) * len(self.noise)).long()
        eps = keyed_normal(keys, self._shape, NOISE)
        named = self._named(self.noise.noised(x0, t, eps), t)
        target = eps if self._spec.predict == "epsilon" else x0
        return (named - target).square().flatten(1).mean(1)

    def _add(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        valid = batch["valid"]
        samples = valid.sum()
        loss = torch.where(valid, self._errors(batch, epoch), 0).sum() / samples.clamp(min=1)
        with torch.no_grad():
            energy = gradient_energy(batch["image"].double() / 255).masked_fill(~valid, 0).sum()
            self._epoch_means.add(samples, loss.detach(), energy)
        return loss, samples

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean squared error (), at steps and noise of this epoch, and its samples ()."""
        return self._add(batch, self.current_epoch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums; each image has the same step and noise in all validations."""
        self._add(batch, FIXED)
        if self._feature_distance is not None:
            self.compare(batch["image"], self(self.served_inputs(batch)), batch["valid"])

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``; of a validation also ``sharpness``, the gradient energy of new images over that of the split's."""
        measured = {"loss": sums[1] / sums[0]}
        if not self.training:
            with torch.no_grad():
                images = self.draw_samples(torch.Generator().manual_seed(SHARPNESS_SEED))
            measured["sharpness"] = gradient_energy(images.double().clamp(0, 1)).mean() / (sums[2] / sums[0])
        return measured

    def forward(self, noise_bchw: Tensor) -> Tensor:
        """(b, c, h, w) noise -> (b, c, h, w) images from 0 to 1, drawn in ``sampling_steps``."""
        return self._walked(noise_bchw, torch.Generator())

    def served_inputs(self, batch: Batch) -> Tensor:
        """(b, c, h, w) noise, of which a model that is served makes images.

        Args:
            batch: A batch of images.
        """
        return keyed_normal(sample_keys(batch, FEATURE_SEED, FIXED), self._shape, BEGINNING)

    def generated(self, number: int, generator: torch.Generator) -> Tensor:
        """(number, c, h, w) new images from 0 to 1.

        Args:
            number: How many.
            generator: Of the CPU, for the noise that they begin with.
        """
        return self._walked(torch.randn(number, *self._shape, generator=generator).to(self.device), generator)

    def _walked(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """(b, c, h, w) images from 0 to 1, from noise alone; with eta ``generator`` gives that of each step."""
        times = sampling_times(len(self.noise), self._spec.sampling_steps)
        for t, s in zip(times, [*times[1:], -1], strict=True):
            t_b = torch.full((x.shape[0],), t, device=x.device)
            named = self._named(x, t_b)
            x0 = named if self._spec.predict == "x0" else self.noise.image_of(x, t_b, named)
            x0 = x0.clamp(-1, 1)
            x = self.noise.earlier(x0, self.noise.noise_of(x, t_b, x0), t, s, self._spec.eta, generator)
        return self.pixels(x)

    def draw_samples(self, generator: torch.Generator) -> Tensor:
        """(samples, c, h, w): new images, from the same noise at each validation.

        Args:
            generator: Of the noise.
        """
        return self.generated(self._spec.samples, generator)


def build(
    spec: DiffusionSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Diffusion:
    """The task diffusion, on images.

    Args:
        spec: What the user chose.
        data_spec: The images.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images.
    """
    check_one_of_each(spec.name, model=model, optimizer=optimizer, schedule=schedule)
    check_fields(spec.name, data_spec, "image")
    return Diffusion(data_spec, model, optimizer, schedule, spec)
