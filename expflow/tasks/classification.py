"""Image classification: one label per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from expflow.architectures.outputs import WithAuxiliary
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_one_of_each
from expflow.tasks.specs import ClassificationSpec


class Classification(ImageTask):
    """Trains a network to name the class of an image; measures loss, top-1 and, with more than five classes, top-5.

    Batches have ``label`` (b,) int64, or (b, classes) shares of a mixed image. What counts are samples. ``*/loss`` is
    without the penalty and the auxiliary losses, so that fits on different penalties compare.

    Args:
        data_spec: The images and classes.
        model: The network, (b, c, h, w) -> (b, classes) or :class:`WithAuxiliary`.
        loss: (scores, labels) -> one value per sample, or their mean.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        penalty: What the size of the weights adds to what is minimised: a key of
            :data:`~expflow.losses.penalties.PENALTIES`, or ``none``.
        penalty_strength: The factor lambda of the penalty.
        auxiliary_weight: The factor of each auxiliary classifier's loss (GoogLeNet, section 5).
    """

    probe: Callable[[Tensor], Tensor] | None = None
    """The head, where batches hold ``features`` (b, …) instead of images (expflow.training.transfer.probe_features)."""

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.Module,
        loss: Loss,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        penalty: str = "none",
        penalty_strength: float = 0.0,
        auxiliary_weight: float = 0.3,
    ) -> None:
        super().__init__(data_spec, model, loss, optimizer, schedule, penalty, penalty_strength)
        self._auxiliary_weight, self._top5 = auxiliary_weight, data_spec.num_classes > 5

    def _output(self, batch: Batch) -> Tensor | WithAuxiliary:
        """The network's output for a batch: of its images, or of the features that its backbone made of them.

        Raises:
            UserError: It is no score for each class: a loss may take other shapes, and would learn something else.
        """
        output = self.probe(batch["features"]) if self.probe is not None else self(batch["image"])
        scores = output.logits if isinstance(output, WithAuxiliary) else output
        expected = (len(batch["label"]), self._classes)
        if not isinstance(scores, Tensor) or scores.shape != expected:
            given = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"type {type(scores).__name__}"
            raise UserError(
                f"the network gives an output of {given} for {expected[0]} images of {self._classes} classes; expected"
                f" a tensor of shape {expected}, a score for each class"
            )
        return output

    def _losses(self, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss over the valid samples, and their number; at least in single precision."""
        loss, samples, _ = self._losses_per_sample(scores, batch)
        return loss, samples

    def _losses_per_sample(self, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """As :meth:`_losses`, and the loss of each sample; None where the loss averages by itself."""
        valid = batch["valid"]
        scores = at_least_single(scores)
        values = self.loss(scores, batch["label"])
        if values.ndim == 0:  # a loss of the user's that averages by itself: padding must not reach it
            values = self.loss(scores[valid], batch["label"][valid])
            return values, valid.sum(), None
        samples = valid.sum()
        shares = valid / samples.clamp(min=1).to(values.dtype)
        return values.dot(shares), samples, values

    def _add(self, scores: Tensor, batch: Batch, loss: Tensor, samples: Tensor, ranks: tuple[int, ...]) -> None:
        """Add a batch to the epoch's means: samples, loss, and hits among the first k classes for k of ``ranks``."""
        with torch.no_grad():
            self._epoch_means.add(samples, loss.detach(), *(self._hits(scores, batch, k) for k in ranks))

    @staticmethod
    def _hits(scores: Tensor, batch: Batch, k: int) -> Tensor:
        label = batch["label"] if batch["label"].ndim == 1 else batch["label"].argmax(1)
        hit = scores.argmax(1) == label if k == 1 else (scores.topk(k, 1).indices == label[:, None]).any(1)
        return (hit & batch["valid"]).sum()

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """Means over samples: ``loss``, ``top1`` and, where it was counted, ``top5``."""
        names = ("loss", "top1", "top5")[: len(sums) - 1]
        return {name: value / sums[0] for name, value in zip(names, sums[1:], strict=True)}

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of the batch's mean loss and the weighted ones of auxiliary classifiers (), and its samples ()."""
        output = self._output(batch)
        scores, auxiliary = output if isinstance(output, WithAuxiliary) else (output, ())
        loss, samples = self._losses(scores, batch)
        self._add(scores, batch, loss, samples, (1,))
        for auxiliary_scores in auxiliary:
            loss = loss + self._auxiliary_weight * self._losses(auxiliary_scores, batch)[0]
        return loss, samples

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the batch to the epoch's means.

        Returns:
            ``scores`` (b, classes), and ``losses`` (b,) unless the loss averages by itself.
        """
        output = self._output(batch)
        scores = output.logits if isinstance(output, WithAuxiliary) else output
        loss, samples, losses = self._losses_per_sample(scores, batch)
        self._add(scores, batch, loss, samples, (1, 5) if self._top5 else (1,))
        return {"scores": scores} if losses is None else {"scores": scores, "losses": losses}


def build(
    spec: ClassificationSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Classification:
    """The task classification, on images with labels.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.
        model: The network.
        loss: The loss.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images or no classes.
    """
    check_one_of_each(spec.name, model=model, loss=loss, optimizer=optimizer, schedule=schedule)
    if data_spec.num_classes == 0 or "image" not in data_spec.fields:
        raise UserError("task classification needs data with the field image and with classes")
    return Classification(
        data_spec, model, loss, optimizer, schedule, spec.penalty, spec.penalty_strength, spec.auxiliary_weight
    )
