"""Autoencoding: an image again, by way of a code (Hinton and Salakhutdinov 2006).

The network sees an image x and gives x' of its size; the loss is taken of both, with all pixels in a row, in units of
the range from black to white. Of a network that squeezes x through a code the loss says what the code keeps of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_fields, check_one_of_each
from expflow.tasks.generative_specs import AutoencoderTaskSpec, ReconstructionSpec
from expflow.tasks.image_metrics import reconstruction_metrics, reconstruction_sums
from expflow.tasks.samples import FirstSamples
from expflow.tasks.vector_output import mean_over_valid


class AutoencoderTask(ImageTask):
    """Trains a network to give its image again; measures the loss and how alike the two are.

    Args:
        data_spec: The images.
        model: The network, normalised (b, c, h, w) -> (b, c, h, w).
        loss: (x', x), both (b, c * h * w) from 0 to 1 -> (b,) values, (b, c * h * w) values or their mean.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.Module,
        loss: Loss,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        spec: ReconstructionSpec,
    ) -> None:
        super().__init__(data_spec, model, loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
        self._first = FirstSamples(spec.samples, "image")

    def reconstructed(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, c, h, w) what the network makes of them, from about 0 to 1.

        Args:
            image_bchw: The images.

        Raises:
            UserError: The network gives something else than images of the same size.
        """
        output = self(self.seen(image_bchw))
        if not isinstance(output, Tensor) or output.shape != image_bchw.shape:
            given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
            raise UserError(
                f"the network gives an output of {given} for images of shape {tuple(image_bchw.shape)}; the task needs"
                " images of the same shape"
            )
        return self.pixels(at_least_single(output))

    def seen(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) images of 0 to 255 -> what the network sees of them, of the same size and range.

        Args:
            image_bchw: The images.
        """
        return image_bchw

    def further_sums(self, batch: Batch) -> tuple[Tensor, ...]:
        """What a task that derives from this one adds up besides, over the batch's valid images.

        Args:
            batch: The batch.
        """
        return ()

    def _add(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean loss (), and its samples (); adds it to the epoch's sums."""
        image, target = self.reconstructed(batch["image"]), batch["image"].float() / 255
        loss, samples = mean_over_valid(self.loss, image.flatten(1), target.flatten(1), batch["valid"])
        if not self.training:
            self.compare(batch["image"], image, batch["valid"])
        sums = (reconstruction_sums(image, target, batch["valid"]), *self.further_sums(batch))
        self._epoch_means.add(samples, loss.detach(), torch.cat(sums))
        return loss, samples

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean loss (), and its samples ()."""
        return self._add(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums."""
        self._first.follow(batch, batch_idx)
        self._add(batch)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``, and those of :func:`~expflow.tasks.image_metrics.reconstruction_metrics`."""
        return {"loss": sums[1] / sums[0], **reconstruction_metrics(sums[2:], sums[0])}

    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """(images, 2, c, h, w): the first images of val, each beside what the network makes of it.

        Args:
            generator: Not used: nothing is random.
        """
        image = self._first.field("image")
        return None if image is None else torch.stack([image.float() / 255, self.reconstructed(image)], 1)


def build(
    spec: AutoencoderTaskSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> AutoencoderTask:
    """The task autoencoder, on images.

    Args:
        spec: What the user chose.
        data_spec: The images.
        model: The network.
        loss: The loss.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images.
    """
    check_one_of_each(spec.name, model=model, loss=loss, optimizer=optimizer, schedule=schedule)
    check_fields(spec.name, data_spec, "image")
    return AutoencoderTask(data_spec, model, loss, optimizer, schedule, spec)
