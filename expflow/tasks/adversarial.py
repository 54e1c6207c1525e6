"""What tasks with a generator and a discriminator have in common: who moves when, and what is summed."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.adversarial_losses import OBJECTIVES, mean_per_image, valid_mean
from expflow.tasks.adversarial_specs import AdversarialSpec
from expflow.tasks.base import Batch, at_least_single
from expflow.tasks.measured_task import MeasuredTask

GENERATOR, DISCRIMINATOR = "generator", "discriminator"

HALF_RANGE = 127.5
"""Bytes are scaled by it to -1 to 1, the range of the hyperbolic tangent that ends a generator."""


class AdversarialTask(MeasuredTask):
    """Trains generators against discriminators, each kind with an optimizer of its own.

    A step is one move of the discriminators on each of ``n_critic`` batches, and one of the generators on the last of
    them; an epoch's last step takes the batches that are left. The discriminators see real and made images in batches
    of their own: the statistics of a batch norm over both would tell them apart (Radford et al. 2016, section 3).

    While one kind moves, the weights of the other have no gradients. Losses are means over the valid images, and over
    ranks. ``*/discriminator_loss`` and ``*/generator_loss`` are what the two minimise.

    Args:
        model: The networks by the names that the task's spec declares.
        optimizer: Factory of the optimizers: one for both kinds, or by ``generator`` and ``discriminator``.
        schedule: Factory of their schedules, likewise; they move once a step.
        spec: What the user chose.
        n_critic: Batches of a step.
    """

    def __init__(
        self,
        model: nn.ModuleDict,
        optimizer: OptimizerFactory | Mapping[str, OptimizerFactory],
        schedule: ScheduleFactory | Mapping[str, ScheduleFactory],
        spec: AdversarialSpec,
        n_critic: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization, self.model = False, model
        self._factories = {name: (_of(optimizer, name), _of(schedule, name)) for name in (GENERATOR, DISCRIMINATOR)}
        self._objective, self._n_critic = OBJECTIVES[spec.objective], n_critic
        self._seed = torch.initial_seed()

    @abstractmethod
    def players(self) -> Mapping[str, nn.Module]:
        """The networks of each optimizer, by ``generator`` and ``discriminator``."""

    @abstractmethod
    def made(self, batch: Batch, batch_idx: int) -> Mapping[str, Tensor]:
        """What the generators make for a batch, by names of the task's.

        Args:
            batch: The batch.
            batch_idx: Its number in its epoch.
        """

    @abstractmethod
    def discriminator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() the discriminators' mean loss.

        Args:
            batch: The batch.
            made: What :meth:`made` gave, without gradients.
        """

    @abstractmethod
    def generator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() the generators' mean loss.

        Args:
            batch: The batch.
            made: What :meth:`made` gave.
        """

    @abstractmethod
    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """Pictures from 0 to 1 that show what the generators make (:mod:`expflow.tasks.samples`).

        Args:
            generator: Of random numbers, the same at each validation.
        """

    def scaled(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> from -1 to 1.

        Args:
            image_bchw: The images.
        """
        return image_bchw / HALF_RANGE - 1

    def real_and_made_loss(self, judge: nn.Module, real_bchw: Tensor, made_bchw: Tensor, valid_b: Tensor) -> Tensor:
        """() a discriminator's mean loss, the sum over real and made images.

        Args:
            judge: The discriminator.
            real_bchw: Real images.
            made_bchw: Made ones.
            valid_b: (b,), false for padding, which is there in both.
        """
        of_real = self._objective.of_real(_logits(judge, real_bchw))
        of_made = self._objective.of_made(_logits(judge, made_bchw))
        return valid_mean(mean_per_image(of_real) + mean_per_image(of_made), valid_b)

    def deceived_loss(self, judge: nn.Module, made_bchw: Tensor, valid_b: Tensor) -> Tensor:
        """() a generator's mean loss: how little the discriminator takes for real what it made.

        Args:
            judge: The discriminator.
            made_bchw: Made images.
            valid_b: (b,), false for padding.
        """
        return valid_mean(mean_per_image(self._objective.of_generator(_logits(judge, made_bchw))), valid_b)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Moves the discriminators, and at the end of a step the generators and the rates.

        Returns:
            ``loss`` (), the sum of both.
        """
        made = self.made(batch, batch_idx)
        apart = {name: image.detach() for name, image in made.items()}
        of_discriminator = self._move(DISCRIMINATOR, lambda: self.discriminator_loss(batch, apart), batch)
        of_generator = None
        if (batch_idx + 1) % self._n_critic == 0 or self.trainer.is_last_batch:
            of_generator = self._move(GENERATOR, lambda: self.generator_loss(batch, made), batch)
            for schedule in self._schedules():
                schedule.step()
        self._add(batch, of_discriminator, of_generator)
        return {"loss": of_discriminator if of_generator is None else of_discriminator + of_generator}

    def _move(self, name: str, loss_of: Any, batch: Batch) -> Tensor:
        """One step of an optimizer; returns its loss."""
        optimizers: Any = self.optimizers()
        optimizer = dict(zip(self.players(), optimizers, strict=True))[name]
        others = [network for player, network in self.players().items() if player != name]
        with _without_gradients(others):
            loss: Tensor = loss_of()
            shared, _ = self._over_ranks(loss, batch["valid"].sum())
            optimizer.zero_grad()
            self.manual_backward(shared)
        optimizer.step()
        return loss.detach()

    def _schedules(self) -> list[Any]:
        schedules: Any = self.lr_schedulers()
        return list(schedules)

    @torch.no_grad()
    def _add(self, batch: Batch, of_discriminator: Tensor, of_generator: Tensor | None, *more: Tensor) -> None:
        """Add a batch to the epoch's sums."""
        images = batch["valid"].sum()
        moved = images if of_generator is not None else torch.zeros_like(images)
        value = of_generator if of_generator is not None else torch.zeros_like(of_discriminator)
        self._epoch_means.add(images, of_discriminator, moved, value * moved, *more)

    def validation_losses(self, batch: Batch, made: Mapping[str, Tensor], *more: Tensor) -> None:
        """Add a batch of a validation to the epoch's sums.

        Args:
            batch: The batch.
            made: What :meth:`made` gave.
            more: Further sums, for :meth:`measured`.
        """
        self._add(batch, self.discriminator_loss(batch, made), self.generator_loss(batch, made), *more)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``discriminator_loss`` and ``generator_loss``, each a mean over the images of its batches."""
        return {"discriminator_loss": sums[1] / sums[0], "generator_loss": sums[3] / sums[2]}

    def configure_optimizers(self) -> Any:
        """An optimizer for each kind of network, and its schedule, which :meth:`training_step` moves."""
        batches = int(self.trainer.estimated_stepping_batches)  # opens the loaders, which have not been counted yet
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self._n_critic)
        total_steps = min(batches, steps_per_epoch * int(self.trainer.max_epochs or 1))
        configured = []
        for name, network in self.players().items():
            make_optimizer, make_schedule = self._factories[name]
            optimizer = make_optimizer(network)
            schedule = make_schedule(optimizer, total_steps, steps_per_epoch)
            configured.append({"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}})
        return configured


def _of(slot: Any, name: str) -> Any:
    """The component of a slot for one kind of network."""
    return slot[name] if isinstance(slot, Mapping) else slot


def _logits(judge: nn.Module, image_bchw: Tensor) -> Tensor:
    """A discriminator's scores (b, …), at least in single precision.

    Raises:
        UserError: It gives no scores of images.
    """
    logits = judge(image_bchw)
    if not isinstance(logits, Tensor) or logits.ndim < 2 or len(logits) != len(image_bchw):
        given = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"type {type(logits).__name__}"
        raise UserError(
            f"the discriminator {type(judge).__name__} gives an output of {given} for {len(image_bchw)} images;"
            f" expected scores of shape ({len(image_bchw)}, …), one or several for each image"
        )
    return at_least_single(logits)


def check_networks(spec: AdversarialSpec, model: Any) -> None:
    """Require that the slot ``model`` holds a task's networks.

    Args:
        spec: The task.
        model: What was built for the slot.

    Raises:
        UserError: It holds one network, or others.
    """
    names = ", ".join(spec.networks)
    if not isinstance(model, nn.ModuleDict):
        raise UserError(f"task {spec.name} takes the networks {names}; the recipe gives one without a name")
    if set(model) != set(spec.networks):
        raise UserError(f"task {spec.name} takes the networks {names}; the recipe gives {', '.join(model)}")


def check_made(generator: nn.Module, made: Any, shape: tuple[int, ...]) -> Tensor:
    """What a generator made.

    Args:
        generator: The generator.
        made: Its output.
        shape: Which shape it has to have.

    Raises:
        UserError: It is something else.
    """
    if not isinstance(made, Tensor) or tuple(made.shape) != shape:
        given = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else f"type {type(made).__name__}"
        raise UserError(
            f"the generator {type(generator).__name__} gives an output of {given}; expected images of shape {shape}"
        )
    return made


@contextmanager
def _without_gradients(networks: list[nn.Module]) -> Iterator[None]:
    """In the body the weights of networks get no gradients; what enters the networks does."""
    held = [weight for network in networks for weight in network.parameters() if weight.requires_grad]
    for weight in held:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in held:
            weight.requires_grad_(True)
