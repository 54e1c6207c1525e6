"""Semantic segmentation: the class of each pixel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from expflow.data.dataspec import VOID, DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.losses.targets import IGNORED
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_one_of_each
from expflow.tasks.prediction_pictures import mask_picture
from expflow.tasks.samples import FirstSamples
from expflow.tasks.specs import SAMPLES, SegmentationSpec

IMAGE, MASK = "image", "mask"


class Segmentation(ImageTask):
    """Trains a network to name the class of each pixel; measures loss, mean intersection over union, pixel accuracy.

    Batches have ``mask`` (b, h, w) uint8, whose void pixels (255) count for nothing. Scores of another size are resized
    to the mask, bilinear, never the mask to the scores. A network may give its scores as a tensor or, as torchvision's
    do, in a mapping under ``out``; scores under ``aux`` are learned from as well.

    The loss is called with scores (b, classes, h, w) and classes (b, h, w), void and padding being -100, which torch's
    losses leave out by themselves. It gives a value for each pixel, whose mean over all that count is minimised; or for
    each image; or their mean.

    Args:
        data_spec: The images and classes.
        model: The network, (b, c, h, w) -> (b, classes, h', w').
        loss: (scores, classes) -> (b, h, w), (b,) or ().
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        penalty: As of :class:`~expflow.tasks.base.ImageTask`.
        penalty_strength: The factor of the penalty.
        auxiliary_weight: The factor of the loss of auxiliary scores.
        samples: How many images of val are drawn at each validation.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.Module,
        loss: Loss,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        penalty: str = "none",
        penalty_strength: float = 0.0,
        auxiliary_weight: float = 0.4,
        samples: int = SAMPLES,
    ) -> None:
        super().__init__(data_spec, model, loss, optimizer, schedule, penalty, penalty_strength)
        self._auxiliary_weight = auxiliary_weight
        self._names = data_spec.classes
        self._first = FirstSamples(samples, IMAGE, MASK)

    def _scores(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Scores (b, classes, h, w) of a batch, and auxiliary ones where the network gives them.

        Raises:
            UserError: The network gives something else.
        """
        given = self(batch[IMAGE])
        output, auxiliary = given, None
        if isinstance(given, Mapping):
            output, auxiliary = given.get("out"), given.get("aux") if self.training else None
        expected = (len(batch[MASK]), self._classes)
        if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[:2] != expected:
            what = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
            raise UserError(
                f"the network gives an output of {what} for {expected[0]} images of {expected[1]} classes; expected a"
                f" tensor of shape ({expected[0]}, {expected[1]}, height, width), scores at every pixel"
            )
        return self._resized(output, batch), None if auxiliary is None else self._resized(auxiliary, batch)

    @staticmethod
    def _resized(scores_bchw: Tensor, batch: Batch) -> Tensor:
        size = batch[MASK].shape[1:]
        scores_bchw = at_least_single(scores_bchw)
        if scores_bchw.shape[2:] == size:
            return scores_bchw
        return functional.interpolate(scores_bchw, size=size, mode="bilinear", align_corners=False)

    @staticmethod
    def _target(batch: Batch) -> Tensor:
        """(b, h, w) int64: the class of each pixel, -100 where it is void or the image is padding."""
        left_out = (batch[MASK] == VOID) | ~batch["valid"][:, None, None]
        return batch[MASK].long().masked_fill(left_out, IGNORED)

    def _losses(self, scores_bchw: Tensor, target_bhw: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss over what counts: pixels, or images where the loss gives one value for each; and their number."""
        values, valid = self.loss(scores_bchw, target_bhw), batch["valid"]
        if values.ndim == 0:  # a loss of the user's that averages by itself: padding must not reach it
            return self.loss(scores_bchw[valid], target_bhw[valid]), (target_bhw != IGNORED).sum()
        if values.shape not in (target_bhw.shape, target_bhw.shape[:1]):
            raise UserError(
                f"the loss gives values of shape {tuple(values.shape)} for masks of shape {tuple(target_bhw.shape)};"
                f" expected one for each pixel, one for each image, or their mean"
            )
        counts = target_bhw != IGNORED if values.ndim == 3 else valid
        number = counts.sum()
        return torch.where(counts, values, 0).sum() / number.clamp(min=1), number

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean loss with the weighted one of auxiliary scores (), and how much counts in it ()."""
        (scores, auxiliary), target = self._scores(batch), self._target(batch)
        loss, number = self._losses(scores, target, batch)
        with torch.no_grad():
            overlaps = overlap_counts(scores.argmax(1), target, self._classes)
            self._epoch_means.add(number, loss.detach(), overlaps.sum(0).flatten())
        if auxiliary is not None:
            loss = loss + self._auxiliary_weight * self._losses(auxiliary, target, batch)[0]
        return loss, number

    def predicted(self, batch: Batch) -> Tensor:
        """(b, h, w) the class of each pixel, of the mask's size.

        Args:
            batch: The batch.
        """
        return self._scores(batch)[0].argmax(1)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the batch to the epoch's sums.

        Returns:
            ``overlaps`` (b, 3, classes), from :func:`overlap_counts`.
        """
        self._first.follow(batch, batch_idx)
        (scores, _), target = self._scores(batch), self._target(batch)
        loss, number = self._losses(scores, target, batch)
        overlaps = overlap_counts(scores.argmax(1), target, self._classes)
        self._epoch_means.add(number, loss.detach(), overlaps.sum(0).flatten())
        return {"overlaps": overlaps}

    def draw_samples(self, generator: torch.Generator) -> NDArray[np.uint8] | None:
        """(height, width, 3): the first images of val, their true and their predicted masks; None without any.

        Args:
            generator: Not used: nothing is random.
        """
        batch = self._first.batch()
        if batch is None:
            return None
        image, true, predicted = (part.cpu().numpy() for part in (batch[IMAGE], batch[MASK], self.predicted(batch)))
        return mask_picture(image, true, predicted, self._names)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``, a mean over what counts; ``miou`` and ``pixel_accuracy`` over all pixels of the data set."""
        overlaps = sums[2:].view(3, self._classes)
        accuracy = overlaps[0].sum() / overlaps[1].sum()
        return {"loss": sums[1] / sums[0], "miou": mean_iou(overlaps), "pixel_accuracy": accuracy}


def overlap_counts(predicted_bhw: Tensor, target_bhw: Tensor, classes: int) -> Tensor:
    """How predicted and true areas overlap: (b, 3, classes) int64, for each image and class the pixels of both, the
    true ones and the predicted ones. Nothing waits for the device.

    Args:
        predicted_bhw: (b, h, w) predicted classes.
        target_bhw: (b, h, w) true classes; a pixel whose class is -100 counts for nothing.
        classes: How many classes there are.
    """
    void = target_bhw == IGNORED
    target, predicted = target_bhw.masked_fill(void, classes), predicted_bhw.masked_fill(void, classes)
    hits = torch.where(predicted == target, target, classes)
    kinds = torch.stack([hits, target, predicted], 1).flatten(2)  # (b, 3, pixels)
    counts = kinds.new_zeros(*kinds.shape[:2], classes + 1)
    return counts.scatter_add_(2, kinds, torch.ones_like(kinds))[..., :classes]


def mean_iou(overlaps: Tensor) -> Tensor:
    """Mean over classes of intersection over union; a class that is neither there nor predicted is left out.

    Args:
        overlaps: (3, classes) pixels of both, true pixels and predicted pixels of each class.

    Source:
        Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.4.
    """
    both, true, predicted = overlaps
    return (both / (true + predicted - both)).nanmean()


def build(
    spec: SegmentationSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Segmentation:
    """The task segmentation, on images with masks.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.
        model: The network.
        loss: The loss.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images or no masks.
    """
    check_one_of_each(spec.name, model=model, loss=loss, optimizer=optimizer, schedule=schedule)
    if data_spec.num_classes == 0 or not {IMAGE, MASK} <= set(data_spec.fields):
        fields = ", ".join(data_spec.fields) or "none"
        raise UserError(f"task segmentation needs data with the fields image and mask; these have {fields}")
    return Segmentation(
        data_spec,
        model,
        loss,
        optimizer,
        schedule,
        spec.penalty,
        spec.penalty_strength,
        spec.auxiliary_weight,
        spec.samples,
    )
