"""Masked autoencoding (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners").

Most patches of an image are taken away; the encoder sees the rest, and the decoder is to draw what is missing. The loss
is the mean squared error of the pixels of the patches that were taken away, each patch normalised by its own mean and
deviation (``norm_pix``). What is learned is measured by probes of the encoder's features of whole images: the losses of
two mask ratios, or with and without ``norm_pix``, cannot be compared.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expflow.architectures.mae import MAE, image_of, patches_of
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_fields, check_one_of_each, own_loss
from expflow.tasks.feature_probes import linear_probe_top1, neighbours_top1
from expflow.tasks.generative_specs import MAETaskSpec
from expflow.tasks.keyed_noise import FIXED, keyed_uniform, sample_keys
from expflow.tasks.samples import FirstSamples
from expflow.tasks.vector_output import gathered_rows

MASKS = 3
"""Stream of random numbers of a sample."""

EPSILON = 1e-6
"""Added to the variance of a patch, as in the authors' code."""


class MaskedAutoencoding(ImageTask):
    """Trains a network to draw the patches that it does not see; measures the loss, and probes of its features.

    Args:
        data_spec: The images.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: MAE,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        spec: MAETaskSpec,
    ) -> None:
        super().__init__(data_spec, model, own_loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
        self._spec, self._network, self._seed = spec, (model,), torch.initial_seed()
        self._kept = max(1, round(model.number * (1 - spec.mask_ratio)))
        if self._kept == model.number:
            raise UserError(
                f"task.mask_ratio {spec.mask_ratio} takes none of an image's {model.number} patches away; "
                + ("raise it, or " if model.number > 1 else "")
                + "take smaller patches (model.patch)"
            )
        self._shape = data_spec.image_shape
        self._first = FirstSamples(spec.samples, "image", "index")
        self._probed = "label" in data_spec.fields
        self._features: list[tuple[Tensor, ...]] = []

    def _masked(self, batch: Mapping[str, Tensor], epoch: int) -> tuple[Tensor, Tensor]:
        """The order of each image's patches (b, t), and which of them are taken away (b, t)."""
        order = keyed_uniform(sample_keys(batch, self._seed, epoch), (self._network[0].number,), MASKS).argsort(1)
        away = torch.ones_like(order, dtype=torch.bool).scatter(1, order[:, : self._kept], False)
        return order, away

    def _errors(self, batch: Batch, epoch: int) -> Tensor:
        """(b,) mean squared error over the patches that count."""
        image = (batch["image"] - self._mean) / self._std
        order, away = self._masked(batch, epoch)
        patch = self._network[0].patch
        drawn = patches_of(at_least_single(self.model(image, order, self._kept)), patch)
        target, (mean, deviation) = patches_of(image, patch), self._statistics(image)
        error_bt = (drawn - (target - mean) / deviation).square().mean(2)
        counted = away if self._spec.loss_on == "masked" else torch.ones_like(away)
        return (error_bt * counted).sum(1) / counted.sum(1)

    def _statistics(self, image_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (b, t, 1) by which the pixels of patches are normalised; 0 and 1 without ``norm_pix``."""
        patches = patches_of(image_bchw, self._network[0].patch)
        if not self._spec.norm_pix:
            return torch.zeros_like(patches[..., :1]), torch.ones_like(patches[..., :1])
        return patches.mean(2, keepdim=True), (patches.var(2, keepdim=True) + EPSILON).sqrt()

    def _add(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        valid = batch["valid"]
        samples = valid.sum()
        loss = torch.where(valid, self._errors(batch, epoch), 0).sum() / samples.clamp(min=1)
        self._epoch_means.add(samples, loss.detach())
        return loss, samples

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean squared error (), with masks of this epoch, and its samples ()."""
        return self._add(batch, self.current_epoch)

    def on_validation_start(self) -> None:
        """Begins to keep features."""
        super().on_validation_start()
        self._features = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums, each image with the same mask in all validations; keeps its features."""
        batch = {"index": torch.arange(len(batch["image"]), device=self.device), **batch}
        self._first.follow(batch, batch_idx)
        self._add(batch, FIXED)
        if self._probed:
            features = self._network[0].features((batch["image"] - self._mean) / self._std)
            places = batch["index"].masked_fill(~batch["valid"], -1)
            self._features.append((at_least_single(features), batch["label"], places))

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``; of a validation of images with classes also ``probe_top1`` and ``knn_top1``."""
        measured = {"loss": sums[1] / sums[0]}
        if not self.training and self._features:
            features, labels, places = (gathered_rows(torch.cat(part)) for part in zip(*self._features, strict=True))
            order = places.argsort()[(places < 0).sum() :]  # ranks and padding change nothing
            features, labels = features[order], labels[order]
            measured["probe_top1"] = linear_probe_top1(features, labels, self._classes)
            measured["knn_top1"] = neighbours_top1(features, labels, self._classes)
        return measured

    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """(images, 3, c, h, w): what is seen of the first images of val, what is made of it, and the images.

        Args:
            generator: Not used: masks belong to their images.
        """
        image, index = self._first.field("image"), self._first.field("index")
        if image is None or index is None:
            return None
        valid = torch.ones(len(image), dtype=torch.bool, device=image.device)
        order, away = self._masked({"valid": valid, "index": index}, FIXED)
        whole, patch = (image - self._mean) / self._std, self._network[0].patch
        mean, deviation = self._statistics(whole)
        drawn = patches_of(at_least_single(self.model(whole, order, self._kept)), patch) * deviation + mean
        original = patches_of(image.float() / 255, patch)
        made = patches_of(self.pixels(image_of(drawn, patch, self._shape)), patch)
        rows = (original.masked_fill(away[..., None], 0.5), torch.where(away[..., None], made, original), original)
        return torch.stack([image_of(patches, patch, self._shape) for patches in rows], 1)


def build(
    spec: MAETaskSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> MaskedAutoencoding:
    """The task mae, on images.

    Args:
        spec: What the user chose.
        data_spec: The images; classes are used by probes alone.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, the data have no images, or the network is no masked autoencoder.
    """
    check_one_of_each(spec.name, model=model, optimizer=optimizer, schedule=schedule)
    check_fields(spec.name, data_spec, "image")
    if not isinstance(model, MAE):
        raise UserError("task mae needs model mae, or one of your own that derives from expflow.architectures.mae.MAE")
    return MaskedAutoencoding(data_spec, model, optimizer, schedule, spec)
