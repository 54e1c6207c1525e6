"""Anomalies by reconstruction: what an autoencoder has never seen, it gives again badly.

One class is left out of the training; in validation its images are to have larger errors than the others'. How well
the errors tell them apart is measured by the area under the ROC curve: the probability that an image of the class left
out has a larger error than one of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.tasks.autoencoder import AutoencoderTask
from expflow.tasks.base import Batch, check_fields, check_one_of_each
from expflow.tasks.generative_specs import AnomalySpec
from expflow.tasks.image_metrics import l2
from expflow.tasks.vector_output import gathered_rows


class AnomalyTask(AutoencoderTask):
    """Trains a network to give images again of all classes but one; measures how its errors tell that one.

    Args:
        left_out: Number of the class that is left out.
        slots: What :class:`~expflow.tasks.autoencoder.AutoencoderTask` takes.
    """

    def __init__(self, left_out: int, **slots: Any) -> None:
        super().__init__(**slots)
        self._left_out = left_out
        self._errors: list[tuple[Tensor, Tensor, Tensor]] = []

    def _learned(self, batch: Batch) -> Batch:
        """The batch with images of the class left out as padding, in whose places others stand: no norm sees them."""
        learned = batch["valid"] & (batch["label"] != self._left_out)
        places = torch.arange(len(learned), device=learned.device)
        image = batch["image"][torch.where(learned, places, learned.long().argmax())]
        return {**batch, "image": image, "valid": learned}

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean loss over the batch's images of the other classes (), and their number ()."""
        return super().training_loss(self._learned(batch))

    def on_validation_start(self) -> None:
        """Begins to keep errors."""
        super().on_validation_start()
        self._errors = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums, and keeps each image's error."""
        self._first.follow(batch, batch_idx)
        self._add(self._learned(batch))
        error = l2(self.reconstructed(batch["image"]), batch["image"].float() / 255)
        self._errors.append((error, batch["label"] == self._left_out, batch["valid"]))

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """As of an autoencoder, over the classes that are learned; of a validation also ``auroc``."""
        measured = dict(super().measured(sums))
        if not self.training and self._errors:
            error, odd, valid = (gathered_rows(torch.cat(part)) for part in zip(*self._errors, strict=True))
            measured["auroc"] = auroc(error[valid], odd[valid])
        return measured


def auroc(scores_n: Tensor, positive_n: Tensor) -> Tensor:
    """Probability that a positive's score is above a negative's, equal ones counting half: ().

    nan where there are none of either.

    Args:
        scores_n: (n,) scores.
        positive_n: (n,) bool.
    """
    above, below = scores_n[positive_n].double(), scores_n[~positive_n].double().sort().values
    lower = torch.searchsorted(below, above, right=False)
    not_higher = torch.searchsorted(below, above, right=True)
    return (lower + not_higher).double().mean() / 2 / len(below)


def build(spec: AnomalySpec, data_spec: DataSpec, **slots: Any) -> AnomalyTask:
    """The task anomaly, on images with classes.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.
        slots: Network, loss, and factories of optimizer and schedule.

    Raises:
        UserError: A slot holds several components, the data have no images or classes, or no class of this name.
    """
    check_one_of_each(spec.name, **slots)
    check_fields(spec.name, data_spec, "image", "label")
    if spec.left_out not in data_spec.classes:
        raise UserError(f"task.left_out: there is no class {spec.left_out!r}; there are {', '.join(data_spec.classes)}")
    return AnomalyTask(data_spec.classes.index(spec.left_out), spec=spec, data_spec=data_spec, **slots)
