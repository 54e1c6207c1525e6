"""One-shot architecture search by gradient: the network's weights learn on one half of train, the architecture's on the
other.

Source:
    Liu et al. 2019, "DARTS: Differentiable Architecture Search", algorithm 1; first order: the gradient at the present
    weights; second order: at those after one step of theirs. Zela et al. 2020, "Understanding and Robustifying
    Differentiable Architecture Search", section 3: the dominant eigenvalue as a sign of collapse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from expflow.architectures.supernet import Supernet
from expflow.architectures.supernet_children import child_texts, chosen_edges, discrete_mixing
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch
from expflow.tasks.classification import Classification
from expflow.tasks.mean_accumulator import MeanAccumulator
from expflow.tasks.specs import CHILD, OneShotSpec

_POWER_STEPS = 10
_EPSILON = 1e-8
_LEAST = 2
"""Samples of each side that a batch needs: batch norms have no variance of one."""

LossOf = Callable[[Sequence[Tensor], Mapping[str, Tensor]], Tensor]
"""Architecture weights, network's weights -> mean loss ()."""


def architecture_side(index_b: Tensor, share: float) -> Tensor:
    """(b,) numbers of samples -> (b,), which of them the architecture learns on: for each sample always the same.

    Args:
        index_b: Numbers of samples.
        share: The share of samples that it learns on.
    """
    mixed = (index_b.long() + 1) * 2_654_435_761 % 2**32
    mixed = (mixed ^ (mixed >> 15)) * 2_246_822_519 % 2**32
    return mixed < int(share * 2**32)


def unrolled_gradient(
    training_loss: LossOf,
    architecture_loss: LossOf,
    architecture: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    rate: float,
) -> tuple[Tensor, ...]:
    """The gradient of the architecture's loss after one step of the network's weights, through that step.

    Args:
        training_loss: The loss that the step descends.
        architecture_loss: The loss whose gradient is asked for.
        architecture: The architecture weights.
        weights: The network's weights by name.
        rate: The step's learning rate.

    Source: DARTS, equation 6, whose second derivatives are exact here and no finite differences.
    """
    leaves = [value.detach().requires_grad_() for value in architecture]
    start = {name: value.detach().requires_grad_() for name, value in weights.items()}
    loss = training_loss(leaves, start)
    slopes = torch.autograd.grad(loss, list(start.values()), create_graph=True, allow_unused=True)
    stepped = {
        name: value if slope is None else value - rate * slope
        for (name, value), slope in zip(start.items(), slopes, strict=True)
    }
    return torch.autograd.grad(architecture_loss(leaves, stepped), leaves)


class OneShot(Classification):
    """Trains a supernet and its architecture weights in turn, one step each for every batch.

    Every sample belongs to one of the two sides for good. The architecture weights are buffers of the network; they
    are stepped by Adam, whose state is buffers of the task, so a checkpoint holds both. After each epoch the child that
    they stand for is written as a text. How the search fares is measured, too: ``train/skips``, the share of edges that
    only pass on (a collapse, where it nears 1); ``train/eigenvalue``, the largest curvature of val's loss on its first
    batch; ``train/entropy`` of the mixtures; ``val/discrete_top1`` of the child alone, by the shared weights, and
    ``val/gap``, what it lacks. A batch that is too small for both sides is passed over.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.
        model: The network.
        loss: (scores, labels) -> one value per sample, or their mean.
        optimizer: Factory of the weights' optimizer.
        schedule: Factory of the weights' schedule.
    """

    model: Supernet

    def __init__(
        self,
        spec: OneShotSpec,
        data_spec: DataSpec,
        model: Supernet,
        loss: Loss,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
    ) -> None:
        super().__init__(data_spec, model, loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
        self._spec, self._watched = spec, Batch()
        self._discrete_hits = MeanAccumulator()
        self.register_buffer("_architecture_steps", torch.zeros((), dtype=torch.int64))
        for place, weights in enumerate(model.architecture):
            self.register_buffer(f"_first_moment_{place}", torch.zeros_like(weights))
            self.register_buffer(f"_second_moment_{place}", torch.zeros_like(weights))

    def on_train_start(self) -> None:
        """Refuses what the search's steps do not go with."""
        super().on_train_start()
        if self._accumulate > 1:
            raise UserError("trainer.accumulate: a one-shot search steps the architecture with every batch; remove it")
        if self._spec.order == 2 and self._ranks > 1:
            raise UserError("task.order: 2 goes through a step of this rank alone; take order 1, or resources.ranks: 1")

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A step of the architecture on its samples; then the weights' mean loss () on theirs, and their number ()."""
        side = architecture_side(batch["index"], self._spec.share)
        held, own = _rows(batch, side & batch["valid"]), _rows(batch, ~side & batch["valid"])
        if self._fewest(len(held["valid"]), len(own["valid"])) < _LEAST:
            nothing = torch.stack([parameter.sum() for parameter in self.model.parameters()]).sum() * 0.0
            return nothing, own["valid"].sum() * 0
        if self.current_epoch >= self._spec.warmup:
            self._step_architecture(self._architecture_gradient(held, own))
        return self.weights_loss(own)

    def weights_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean loss () by which the weights are stepped, and the number of samples ().

        Args:
            batch: The samples that the weights learn on.
        """
        return super().training_loss(batch)

    def _fewest(self, *counts: int) -> int:
        """The smallest of some numbers over all ranks, so that all of them do the same with their batch."""
        fewest = min(counts)
        if self._ranks > 1:
            shared = torch.tensor(fewest, device=self.device)
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MIN)
            fewest = int(shared)
        return fewest

    def _loss_on(self, batch: Batch) -> LossOf:
        """The loss of a batch as a function of both kinds of weights, over all ranks."""
        images = (batch["image"] - self._mean) / self._std

        def loss_of(architecture: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Tensor:
            mixing = self.model.mixing(architecture)
            scores = functional_call(self.model, dict(weights), (images, mixing)) if weights else None
            loss, samples = self._losses(self.model(images, mixing) if scores is None else scores, batch)
            return self._over_ranks(loss, samples)[0]

        return loss_of

    def _architecture_gradient(self, held: Batch, own: Batch) -> Sequence[Tensor]:
        architecture = self.model.architecture
        if self._spec.order == 2:
            rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
            weights = dict(self.model.named_parameters())
            return unrolled_gradient(self._loss_on(own), self._loss_on(held), architecture, weights, rate)
        leaves = [weights.detach().requires_grad_() for weights in architecture]
        return self._mean_over_ranks(torch.autograd.grad(self._loss_on(held)(leaves, {}), leaves))

    def _mean_over_ranks(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Tensors that are equal on all ranks, by one exchange."""
        if self._ranks == 1:
            return list(values)
        joined = torch.cat([value.flatten() for value in values])
        torch.distributed.all_reduce(joined)
        parts = (joined / self._ranks).split([value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    @torch.no_grad()
    def _step_architecture(self, gradients: Sequence[Tensor]) -> None:
        """A step of Adam (Kingma and Ba 2015, algorithm 1) with the decay added to the gradient, as DARTS has it."""
        first_decay, second_decay = self._spec.betas
        self.get_buffer("_architecture_steps").add_(1)
        steps = self.get_buffer("_architecture_steps").to(torch.float64)
        for place, (weights, slope) in enumerate(zip(self.model.architecture, gradients, strict=True)):
            gradient = slope + self._spec.architecture_decay * weights
            first, second = (self.get_buffer(f"_{which}_moment_{place}") for which in ("first", "second"))
            first.lerp_(gradient, 1 - first_decay)
            second.lerp_(gradient.square(), 1 - second_decay)
            mean, square = first / (1 - first_decay**steps), second / (1 - second_decay**steps)
            weights.sub_(self._spec.architecture_lr * mean / (square.sqrt() + _EPSILON))

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Adds the batch to the epoch's means, and the hits of the child alone."""
        output = super().validation_step(batch, batch_idx)
        if batch_idx == 0:
            self._watched = batch
        scores = self.model((batch["image"] - self._mean) / self._std, discrete_mixing(self.model))
        hits = self._hits(scores, batch, 1)
        samples, no_loss = batch["valid"].sum(), scores.new_zeros(())
        self._discrete_hits.add(samples, no_loss, hits, self._hits(output["scores"], batch, 1))
        return output

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/*``, among them what the child lacks to the network of all of them."""
        total, self._discrete_hits = self._discrete_hits.total(), MeanAccumulator()
        if total is not None:
            samples, _, discrete, mixed = self.trainer.strategy.reduce(total, reduce_op="sum")
            self.log_dict({"val/discrete_top1": discrete / samples, "val/gap": (mixed - discrete) / samples})
        super().on_validation_epoch_end()

    def on_train_epoch_end(self) -> None:
        """Logs ``train/*`` and how the search fares, and writes the child as it stands."""
        super().on_train_epoch_end()
        mixing = self.model.mixing(self.model.architecture)
        names = self.model.operation_names
        kept = [names[operation] for weights in mixing for _, operation in chosen_edges(self.model, weights)]
        entropy = torch.stack([_entropy(weights) for weights in self.model.architecture]).mean()
        facts: dict[str, Tensor | float] = {
            "train/skips": kept.count("skip_connect") / len(kept),
            "train/entropy": entropy,
        }
        if self._watched and not self._spec.paths:  # of a mixture that nothing trains it says nothing
            facts["train/eigenvalue"] = self.dominant_eigenvalue(self._watched)
        self.log_dict(dict(facts))
        text = json.dumps(child_texts(self.model), indent=1)
        if (artifacts := getattr(self.trainer, "artifacts", None)) is not None:  # a Trainer of somebody else's has none
            artifacts.write_text(CHILD, text, step=self.global_step)

    def dominant_eigenvalue(self, batch: Batch) -> float:
        """The largest eigenvalue, by its size, of the loss's second derivatives by the architecture weights.

        By power iteration from a fixed vector, with the running statistics of batch norms.

        Args:
            batch: The samples that the loss is of.
        """
        training, batch = self.model.training, {name: value.clone() for name, value in batch.items()}
        self.model.eval()
        leaves = [weights.detach().requires_grad_() for weights in self.model.architecture]
        slopes = torch.autograd.grad(self._loss_on(batch)(leaves, {}), leaves, create_graph=True)
        vector, value = [torch.ones_like(weights) for weights in leaves], 0.0
        for _ in range(_POWER_STEPS):
            length = float(torch.stack([part.square().sum() for part in vector]).sum().sqrt())
            if not length:
                break
            vector = [part / length for part in vector]
            product = self._mean_over_ranks(torch.autograd.grad(slopes, leaves, vector, retain_graph=True))
            value = float(torch.stack([(new * old).sum() for new, old in zip(product, vector, strict=True)]).sum())
            vector = product
        self.model.train(training)
        return value


def _rows(batch: Batch, rows_b: Tensor) -> Batch:
    """The samples of a batch that are marked."""
    return {name: value[rows_b] for name, value in batch.items()}


def _entropy(weights: Tensor) -> Tensor:
    """Mean entropy of the softmax of the last dimension, in units of the largest there can be."""
    logarithms = torch.log_softmax(weights, -1)
    return -(logarithms.exp() * logarithms).sum(-1).mean() / torch.tensor(weights.shape[-1]).log()
