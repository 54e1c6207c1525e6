"""Several things of one image by one network: a class, several classes, numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, check_one_of_each
from expflow.tasks.ranking_precision import average_precision
from expflow.tasks.regression import error_sums
from expflow.tasks.specs import MultitaskSpec
from expflow.tasks.vector_output import EpochScores, answered, checked_vector, mean_over_valid

LEARNED = ("label", "labels", "target")
"""Fields that it learns, where the data have them."""


def _binary(scores_bc: Tensor, target_bc: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(scores_bc, target_bc, reduction="none")


def _squared(given_bk: Tensor, target_bk: Tensor) -> Tensor:
    return functional.mse_loss(given_bk, target_bk, reduction="none")


def _cross_entropy(scores_bc: Tensor, label_b: Tensor) -> Tensor:
    return functional.cross_entropy(scores_bc, label_b, reduction="none")


class Multitask(ImageTask):
    """Trains a network on several fields of a batch; ``loss`` is the sum of their losses by weight.

    The network gives a mapping of each field's name to (b, k): scores of the classes for ``label`` and ``labels``,
    predictions for ``target``. Measured are, of the fields that count: top-1, mean average precision, root mean squared
    and mean absolute error.

    Args:
        data_spec: The images and their fields.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        weights: Field to the factor of its loss; only these are learned.
        penalty: As of :class:`~expflow.tasks.base.ImageTask`.
        penalty_strength: The factor of the penalty.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.Module,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        weights: Mapping[str, float],
        penalty: str = "none",
        penalty_strength: float = 0.0,
    ) -> None:
        super().__init__(data_spec, model, nn.Identity(), optimizer, schedule, penalty, penalty_strength)
        self._weights = dict(weights)
        self._widths = {field: data_spec.outputs(field) for field in weights}
        self._validated = EpochScores()

    def _outputs(self, batch: Batch) -> dict[str, Tensor]:
        given: Any = self(batch["image"])
        if not isinstance(given, Mapping) or not self._weights.keys() <= given.keys():
            names = ", ".join(given) if isinstance(given, Mapping) else f"a {type(given).__name__}"
            raise UserError(
                f"task multitask needs a network that gives a mapping with {', '.join(self._weights)}; it gives {names}"
            )
        samples = len(batch["valid"])
        return {
            field: checked_vector(given[field], samples, width, f"the output of {field}")
            for field, width in self._widths.items()
        }

    def _field_loss(self, field: str, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        if field == "label":
            return mean_over_valid(_cross_entropy, output, batch[field], batch["valid"])
        if field == "labels":
            return mean_over_valid(_binary, *answered(output, batch[field]), batch["valid"])
        return mean_over_valid(_squared, output, batch[field], batch["valid"])

    def _add(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Outputs, weighted loss () and samples () of a batch, which is added to the epoch's sums."""
        outputs = self._outputs(batch)
        samples = batch["valid"].sum()
        losses = [self._weights[field] * self._field_loss(field, out, batch)[0] for field, out in outputs.items()]
        loss = torch.stack(losses).sum()
        counted: list[Tensor] = []
        if "label" in outputs:
            counted.append(((outputs["label"].argmax(1) == batch["label"]) & batch["valid"]).sum())
        if "target" in outputs:
            counted += error_sums(outputs["target"], batch)
        self._epoch_means.add(samples, loss.detach(), *counted)
        return outputs, loss, samples

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's weighted loss (), and its samples ()."""
        _, loss, samples = self._add(batch)
        return loss, samples

    def on_validation_start(self) -> None:
        """Sets the training means aside, and begins to keep scores."""
        super().on_validation_start()
        self._validated = EpochScores()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the batch to the epoch's sums.

        Returns:
            ``scores`` (b, classes) of the field ``label``, and ``label_scores`` of ``labels``, where they are learned.
        """
        outputs, _, _ = self._add(batch)
        if "labels" in outputs:
            self._validated.add(outputs["labels"], batch["labels"], batch["valid"])
        named = {"label": "scores", "labels": "label_scores"}
        return {named[field]: output for field, output in outputs.items() if field in named}

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/*``."""
        if "labels" in self._weights:
            self.log_dict({"val/map": average_precision(*self._validated.gathered()).nanmean()})
        super().on_validation_epoch_end()

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``, and ``top1``, ``rmse`` and ``mae`` of the fields that are learned."""
        metrics, rest = {"loss": sums[1] / sums[0]}, list(sums[2:])
        if "label" in self._weights:
            metrics["top1"] = rest.pop(0) / sums[0]
        if "target" in self._weights:
            metrics |= {"rmse": (rest[0] / sums[0]).sqrt(), "mae": rest[1] / sums[0]}
        return metrics


def build(
    spec: MultitaskSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Multitask:
    """The task multitask, on images with two fields or more of ``label``, ``labels`` and ``target``.

    Args:
        spec: What the user chose.
        data_spec: The images and their fields.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, a weight is of a field that the data lack, or nothing is learned.
    """
    check_one_of_each(spec.name, model=model, optimizer=optimizer, schedule=schedule)
    there = [field for field in LEARNED if field in data_spec.fields]
    if missing := sorted(set(spec.weights) - set(there)):
        raise UserError(f"task.weights names {', '.join(missing)}, which these data do not have; they have {there}")
    stated: dict[str, float] = {str(field): weight for field, weight in spec.weights.items()}
    weights = {field: stated.get(field, 1.0) for field in there}
    weights = {field: weight for field, weight in weights.items() if weight}
    if not weights or "image" not in data_spec.fields:
        raise UserError("task multitask needs data with the field image, and label, labels or target with a weight")
    return Multitask(data_spec, model, optimizer, schedule, weights, spec.penalty, spec.penalty_strength)
