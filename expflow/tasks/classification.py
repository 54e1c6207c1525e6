"""Image classification: one label per image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from expflow.architectures.outputs import WithAuxiliary
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.losses.penalties import penalised, penalty
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks import specs
from expflow.tasks.quick import Quick
from expflow.tasks.sums import Sums

Batch = dict[str, Tensor]
"""``image`` (b, c, h, w) uint8, ``label`` (b,) int64 or (b, classes) shares of a mixed image, ``valid`` (b,) bool,
false for padding."""


class Classification(Quick):
    """Trains ``model`` to name the class of an image, and measures loss, top-1 and, with more than five classes, top-5.

    Metrics are exact means over samples, summed on the device and read once an epoch: ``train/*`` in train mode while
    the weights change, ``val/*`` in eval mode. Images are normalised on the device with the data's mean and std.
    ``penalty`` and ``penalty_strength`` are what the size of the weights adds to what is minimised; ``*/loss`` is
    without it, so that fits on different penalties compare. So are the losses of auxiliary classifiers (GoogLeNet,
    section 5), which are added to what is minimised with ``auxiliary_weight`` each.

    Batches whose gradients are accumulated count by their samples, so that they make the step that they would make as
    one batch. Nothing in a training step makes the host wait for the device, unless a loss averages by itself.
    """

    _mean: Tensor
    _std: Tensor
    probe: Callable[[Tensor], Tensor] | None = None
    """The head, where batches hold ``features`` (b, …) in the place of images (expflow.training.transfer.features)."""

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
        super().__init__()
        self.model, self.loss = model, loss
        self._auxiliary_weight = auxiliary_weight
        self._penalty, self._penalty_strength = penalty, penalty_strength
        self._optimizer, self._schedule = optimizer, schedule
        self._top5 = data_spec.num_classes > 5
        self._sums, self._train_sums = Sums(), Sums()
        self._accumulate, self._ranks = 1, 1
        self._group: tuple[Tensor, Tensor] | None = None
        channels = data_spec.in_channels
        scale = 255.0  # the DataSpec's mean and std are of images scaled to 0..1
        mean = torch.tensor(data_spec.mean or [0.0] * channels) * scale
        std = torch.tensor(data_spec.std or [1.0] * channels) * scale
        self.register_buffer("_mean", mean.view(-1, 1, 1), persistent=False)
        self.register_buffer("_std", std.view(-1, 1, 1), persistent=False)

    def forward(self, image_bchw: Tensor) -> Tensor | WithAuxiliary:
        """uint8 images (b, c, h, w) -> scores (b, classes), in train mode with those of auxiliary classifiers."""
        return self.model((image_bchw - self._mean) / self._std)  # type: ignore[no-any-return]

    def _output(self, batch: Batch) -> Tensor | WithAuxiliary:
        """What the network gives for a batch: of its images, or of the features that its backbone gave for them."""
        return self.probe(batch["features"]) if self.probe is not None else self(batch["image"])

    def _losses(self, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss over the valid samples, and their number; at least in single precision."""
        loss, samples, _ = self._each_loss(scores, batch)
        return loss, samples

    def _each_loss(self, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """As :meth:`_losses`, and the loss of each sample; None where the loss averages by itself."""
        valid = batch["valid"]
        scores = scores.float() if scores.dtype.itemsize < 4 else scores
        values = self.loss(scores, batch["label"])
        if values.ndim == 0:  # a loss of the user's that averages by itself: padding must not reach it
            values = self.loss(scores[valid], batch["label"][valid])
            return values, valid.sum(), None
        samples = valid.sum()
        shares = valid / samples.clamp(min=1).to(values.dtype)
        return values.dot(shares), samples, values

    def _add(self, scores: Tensor, batch: Batch, loss: Tensor, samples: Tensor, ranks: tuple[int, ...]) -> None:
        """Add a batch to the epoch's sums: samples, loss, and hits among the first k classes for k of ``ranks``."""
        with torch.no_grad():
            self._sums.add(samples, loss.detach(), *(self._hits(scores, batch, k) for k in ranks))

    @staticmethod
    def _hits(scores: Tensor, batch: Batch, k: int) -> Tensor:
        label = batch["label"] if batch["label"].ndim == 1 else batch["label"].argmax(1)
        hit = scores.argmax(1) == label if k == 1 else (scores.topk(k, 1).indices == label[:, None]).any(1)
        return (hit & batch["valid"]).sum()

    def _means(self, prefix: str, names: tuple[str, ...]) -> None:
        """Log the epoch's means over all ranks as ``prefix/name``, and begin anew."""
        total, self._sums = self._sums.total(), Sums()
        if total is not None:
            sums: Any = self.trainer.strategy.reduce(total, reduce_op="sum")
            self.log_dict({f"{prefix}/{name}": each / sums[0] for name, each in zip(names, sums[1:], strict=True)})

    def _penalty_value(self) -> Tensor | None:
        """What the weights add to the loss as they are now; None without a penalty."""
        if self._penalty == "none":
            return None
        return penalty(self._penalty, penalised(self.model), self._penalty_strength)

    def on_train_start(self) -> None:
        """Ask once how many batches make a step, and how many ranks there are."""
        self._accumulate, self._ranks = self.trainer.accumulate_grad_batches, self.trainer.world_size

    def _everywhere(self, loss: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """``loss``, ``samples`` of this rank -> a loss whose mean over ranks is that of all their samples, and these.

        DDP averages the gradients of ranks as if each had as many samples; a batch with padding has fewer on some.
        """
        if self._ranks == 1:
            return loss, samples
        total = samples.clone()
        torch.distributed.all_reduce(total)  # Lightning's reduce begins with a barrier, which waits for the device
        return loss * (samples * self._ranks / total.clamp(min=1)), total

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The batch's mean loss, the weighted ones of auxiliary classifiers, and the penalty."""
        output = self._output(batch)
        scores, auxiliary = output if isinstance(output, WithAuxiliary) else (output, ())
        loss, samples = self._losses(scores, batch)
        self._add(scores, batch, loss, samples, (1,))
        for each in auxiliary:
            loss = loss + self._auxiliary_weight * self._losses(each, batch)[0]
        loss, samples = self._everywhere(loss, samples)
        added = self._penalty_value()
        loss = loss if added is None else loss + added
        return loss if self._accumulate == 1 else loss * self._weight(samples).to(loss.dtype)

    def _weight(self, samples: Tensor) -> Tensor:
        """What a batch's loss counts beside that of its group's first batch; all are summed up in ``_group``."""
        first, total = (
            self._group if self._group is not None else (samples.double().clamp(min=1), samples.new_zeros(()))
        )
        self._group = first, total + samples
        return samples / first

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Make the accumulated gradient that of the mean over the group's samples.

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

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the batch to the epoch's sums; gives the scores, and the losses, of its samples."""
        output = self._output(batch)
        scores = output.logits if isinstance(output, WithAuxiliary) else output
        loss, samples, losses = self._each_loss(scores, batch)
        self._add(scores, batch, loss, samples, (1, 5) if self._top5 else (1,))
        return {"scores": scores} if losses is None else {"scores": scores, "losses": losses}

    def on_validation_start(self) -> None:
        """Set the training sums aside: validation happens inside of a training epoch."""
        self._train_sums, self._sums = self._sums, Sums()

    def on_validation_epoch_end(self) -> None:
        """Log ``val/*`` and take the training sums up again."""
        self._means("val", ("loss", "top1", "top5") if self._top5 else ("loss", "top1"))
        self._sums = self._train_sums

    def on_train_epoch_end(self) -> None:
        """Log ``train/*``, among them the penalty of the weights as they are now."""
        self._means("train", ("loss", "top1"))
        with torch.no_grad():
            value = self._penalty_value()
        if value is not None:
            self.log_dict({"train/penalty": value})

    def epoch_state(self) -> dict[str, Any]:
        """The training sums of the epoch so far, for a checkpoint within it."""
        return self._sums.state_dict()

    def load_epoch_state(self, state: dict[str, Any]) -> None:
        """Take the sums of an epoch up again."""
        self._sums = Sums.of(state, self.device)

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer, its schedule moved once per optimizer step."""
        optimizer = self._optimizer(self.model)
        networks = {id(each) for each in self.model.parameters()}
        if others := [each for each in self.parameters() if id(each) not in networks]:  # a loss may learn as well
            optimizer.add_param_group({"params": others})
        total_steps = int(self.trainer.estimated_stepping_batches)
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        schedule = self._schedule(optimizer, total_steps, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def build(
    spec: specs.Classification,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Classification:
    """The task of ``spec``: one network, one loss, one optimizer and one schedule, on images with labels."""
    for name, slot in {"model": model, "loss": loss, "optimizer": optimizer, "schedule": schedule}.items():
        if isinstance(slot, dict | nn.ModuleDict):
            raise UserError(f"task {spec.name} takes one {name}; the recipe names {len(slot)}: {', '.join(slot)}")
    if data_spec.num_classes == 0 or "image" not in data_spec.fields:
        raise UserError("task classification needs data with the field image and with classes")
    return Classification(
        data_spec, model, loss, optimizer, schedule, spec.penalty, spec.penalty_strength, spec.auxiliary_weight
    )
