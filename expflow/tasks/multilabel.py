"""Multi-label classification: for each class, whether an image is of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, check_one_of_each
from expflow.tasks.ranking_precision import average_precision
from expflow.tasks.specs import MultilabelSpec
from expflow.tasks.vector_output import EpochScores, answered, checked_vector, mean_over_valid

LABELS = "labels"


class Multilabel(ImageTask):
    """Trains a network to say of which classes an image is; measures loss and mean average precision.

    Batches have ``labels`` (b, classes) uint8: 1 yes, 0 no, 255 not known, which counts for nothing. The loss is called
    with scores and targets, both (b, classes). The mean average precision is over the classes that some sample of the
    split is of, and over all samples of the split and ranks.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._validated = EpochScores()

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        labels = batch[LABELS]
        scores = checked_vector(self(batch["image"]), len(labels), self._classes, "a score for each class")
        return scores, *mean_over_valid(self.loss, *answered(scores, labels), batch["valid"])

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean loss (), and its samples ()."""
        _, loss, samples = self._losses(batch)
        self._epoch_means.add(samples, loss.detach())
        return loss, samples

    def on_validation_start(self) -> None:
        """Sets the training means aside, and begins to keep scores."""
        super().on_validation_start()
        self._validated = EpochScores()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the batch to the epoch's sums and scores.

        Returns:
            ``label_scores`` (b, classes), for what keeps predictions.
        """
        scores, loss, samples = self._losses(batch)
        self._epoch_means.add(samples, loss.detach())
        self._validated.add(scores, batch[LABELS], batch["valid"])
        return {"label_scores": scores}

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/*``."""
        self.log_dict({"val/map": average_precision(*self._validated.gathered()).nanmean()})
        super().on_validation_epoch_end()

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """The mean ``loss``."""
        return {"loss": sums[1] / sums[0]}


def build(
    spec: MultilabelSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Multilabel:
    """The task multilabel, on images with the field ``labels``.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.
        model: The network.
        loss: The loss.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images or no ``labels``.
    """
    check_one_of_each(spec.name, model=model, loss=loss, optimizer=optimizer, schedule=schedule)
    if not {"image", LABELS} <= set(data_spec.fields):
        raise UserError(
            f"task multilabel needs data with the fields image and labels; these have {', '.join(data_spec.fields)}"
        )
    return Multilabel(data_spec, model, loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
