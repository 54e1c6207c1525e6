"""What every task that trains one network on images has in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.losses.penalties import penalised_weights, penalty
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.measured_task import MeasuredTask

Batch = dict[str, Tensor]
"""``image`` (b, c, h, w) uint8, ``valid`` (b,) bool, false for padding, and what the task compares with."""


class ImageTask(MeasuredTask):
    """Trains a network, on images or, where a task has a forward pass of its own, on other fields. A task says what the
    loss of a batch is, and what it counts.

    Metrics are exact over what counts (samples, pixels) and over ranks, summed on the device and read once an epoch:
    ``train/*`` in train mode while the weights change, ``val/*`` in eval mode. Images are normalised on the device with
    the data's mean and std.

    Batches whose gradients are accumulated count by their weight, so that they make the step that they would make as
    one batch; ranks count by theirs. Nothing in a training step makes the host wait for the device, unless a loss
    averages by itself.

    Args:
        data_spec: The images and what is known of them.
        model: The network; it is given (b, c, h, w) normalised images.
        loss: What is minimised; how it is called is the task's.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        penalty: What the size of the weights adds to what is minimised: a key of
            :data:`~expflow.losses.penalties.PENALTIES`, or ``none``.
        penalty_strength: The factor lambda of the penalty.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.Module,
        loss: Loss,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        penalty: str = "none",
        penalty_strength: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self._penalty, self._penalty_strength = penalty, penalty_strength
        self._optimizer, self._schedule = optimizer, schedule
        self._classes = data_spec.num_classes
        self._accumulate = 1
        self._group: tuple[Tensor, Tensor] | None = None
        channels = data_spec.in_channels if "image" in data_spec.fields else 0
        scale = 255.0  # the DataSpec's mean and std are of images scaled to 0..1
        mean = torch.tensor(data_spec.mean or [0.0] * channels) * scale
        std = torch.tensor(data_spec.std or [1.0] * channels) * scale
        self.register_buffer("_mean", mean.view(-1, 1, 1), persistent=False)
        self.register_buffer("_std", std.view(-1, 1, 1), persistent=False)

    @abstractmethod
    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch () over what counts in it, and how much counts (); adds the batch to the epoch's sums.

        Args:
            batch: The batch.
        """

    def forward(self, image_bchw: Tensor) -> Any:
        """(b, c, h, w) uint8 images -> what the network gives."""
        return self.model((image_bchw - self._mean) / self._std)

    def pixels(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) normalised images as a network sees them -> from 0, black, to 1.

        Args:
            image_bchw: The images.
        """
        return (image_bchw * self._std + self._mean) / 255

    def _penalty_value(self) -> Tensor | None:
        """The penalty of the weights as they are now; None without one."""
        if self._penalty == "none":
            return None
        return penalty(self._penalty, penalised_weights(self.model), self._penalty_strength)

    def on_train_start(self) -> None:
        """Stores how many batches make a step, and how many ranks there are."""
        super().on_train_start()
        self._accumulate = self.trainer.accumulate_grad_batches

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the batch's loss and the penalty; ()."""
        loss, weight = self._over_ranks(*self.training_loss(batch))
        weight_penalty = self._penalty_value()
        loss = loss if weight_penalty is None else loss + weight_penalty
        return loss if self._accumulate == 1 else loss * self._weight(weight).to(loss.dtype)

    def _weight(self, weight: Tensor) -> Tensor:
        """The factor of a batch's loss relative to its group's first batch; the weights are summed in ``_group``."""
        first, total = self._group if self._group is not None else (weight.double().clamp(min=1), weight.new_zeros(()))
        self._group = first, total + weight
        return weight / first

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Scales the accumulated gradient to that of the mean over all that counts in the group.

        Lightning has divided each loss by ``accumulate_grad_batches``, as if all batches were full and all groups too.
        """
        if self._group is None:
            return
        first, total = self._group
        factor = self._accumulate * first / total.clamp(min=1)
        self._group = None
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def on_train_epoch_end(self) -> None:
        """Logs ``train/*``, among them the penalty of the weights as they are now."""
        super().on_train_epoch_end()
        with torch.no_grad():
            value = self._penalty_value()
        if value is not None:
            self.log_dict({"train/penalty": value})

    def new_optimizer(self) -> torch.optim.Optimizer:
        """The recipe's optimizer, of all weights that are trained."""
        optimizer = self._optimizer(self.model)
        of_model = {id(parameter) for parameter in self.model.parameters()}
        others = [parameter for parameter in self.parameters() if id(parameter) not in of_model]
        if others:  # a loss may learn as well
            optimizer.add_param_group({"params": others})
        return optimizer

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer, its schedule moved once per optimizer step."""
        optimizer = self.new_optimizer()
        total_steps = int(self.trainer.estimated_stepping_batches)
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        schedule = self._schedule(optimizer, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def at_least_single(scores: Tensor) -> Tensor:
    """Scores of which a loss is taken: half precision becomes single.

    Args:
        scores: Of any shape.
    """
    return scores.float() if scores.dtype.itemsize < 4 else scores


def own_loss(*arguments: Any) -> Tensor:
    """What stands in the slot ``loss`` of a task that computes its own.

    Args:
        arguments: What nobody gives.

    Raises:
        NotImplementedError: It is called after all.
    """
    raise NotImplementedError("this task computes its own loss")


def check_fields(task: str, data_spec: DataSpec, *fields: str) -> None:
    """Require that the data have fields.

    Args:
        task: The task's name.
        data_spec: The data.
        fields: What the task reads.

    Raises:
        UserError: One is missing.
    """
    if not set(fields) <= set(data_spec.fields):
        have = ", ".join(data_spec.fields) or "none"
        raise UserError(f"task {task} needs data with the fields {' and '.join(fields)}; these have {have}")


def check_one_of_each(task: str, **slots: Any) -> None:
    """Require that each slot holds one component.

    Args:
        task: The task's name.
        slots: Slot to what was built for it.

    Raises:
        UserError: A slot holds several.
    """
    for name, slot in slots.items():
        if isinstance(slot, dict | nn.ModuleDict):
            raise UserError(f"task {task} takes one {name}; the recipe names {len(slot)}: {', '.join(slot)}")
