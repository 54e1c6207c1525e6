"""Regression: numbers that belong to an image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, check_one_of_each
from expflow.tasks.specs import RegressionSpec
from expflow.tasks.vector_output import checked_vector, mean_over_valid

TARGET = "target"


class Regression(ImageTask):
    """Trains a network to predict numbers; measures loss, root mean squared error and mean absolute error.

    Batches have ``target`` (b, k) float32. The loss is called with predictions and targets, both (b, k). Errors are
    means over samples and the k numbers.
    """

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions (b, k), mean loss () and samples ()."""
        target = batch[TARGET]
        given = checked_vector(self(batch["image"]), len(target), target.shape[1], "the numbers that it predicts")
        return given, *mean_over_valid(self.loss, given, target, batch["valid"])

    def _add(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        given, loss, samples = self._losses(batch)
        self._epoch_means.add(samples, loss.detach(), *error_sums(given, batch))
        return given, loss, samples

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean loss (), and its samples ()."""
        _, loss, samples = self._add(batch)
        return loss, samples

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the batch to the epoch's sums.

        Returns:
            ``predicted`` (b, k).
        """
        return {"predicted": self._add(batch)[0]}

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``, ``rmse`` and ``mae``."""
        return {"loss": sums[1] / sums[0], "rmse": (sums[2] / sums[0]).sqrt(), "mae": sums[3] / sums[0]}


def error_sums(predicted_bk: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Sums over valid samples of the mean squared and the mean absolute error of their numbers.

    Args:
        predicted_bk: (b, k) predictions.
        batch: ``target`` (b, k) and ``valid`` (b,).
    """
    with torch.no_grad():
        errors = (predicted_bk.double() - batch[TARGET].double()).masked_fill(~batch["valid"][:, None], 0)
        return errors.square().mean(1).sum(), errors.abs().mean(1).sum()


def build(
    spec: RegressionSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Regression:
    """The task regression, on images with the field ``target``.

    Args:
        spec: What the user chose.
        data_spec: The images, and the names of the numbers as classes.
        model: The network.
        loss: The loss.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images or no ``target``.
    """
    check_one_of_each(spec.name, model=model, loss=loss, optimizer=optimizer, schedule=schedule)
    if not {"image", TARGET} <= set(data_spec.fields):
        raise UserError(
            f"task regression needs data with the fields image and target; these have {', '.join(data_spec.fields)}"
        )
    return Regression(data_spec, model, loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
