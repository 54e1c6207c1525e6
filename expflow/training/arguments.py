"""What the keys under ``trainer`` mean to Lightning: arguments of its Trainer, and callbacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import PassThroughProfiler
from torch import nn

from expflow.config.schema import Recipe
from expflow.config.spec import Foreign
from expflow.errors import UserError
from expflow.optim.specs import Plateau
from expflow.training.averaging import Averaging
from expflow.training.contract import World
from expflow.training.image_size import ImageSizes
from expflow.training.torch_state import hold_precisions
from expflow.training.watching import Plateaus, Stopping


def trainer_arguments(recipe: Recipe, world: World) -> dict[str, Any]:
    """Arguments of Lightning's Trainer for the keys that are used. Raises :class:`UserError` where one cannot be."""
    trainer, found = recipe.trainer, dict[str, Any]()
    if "profiler" not in trainer.lightning:
        found["profiler"] = Unprofiled()
    if world.gpus and not {"benchmark", "deterministic"} & trainer.lightning.keys():
        found["benchmark"] = True  # convolutions by the algorithm that is quickest for their sizes
    if trainer.accumulate > 1:
        found["accumulate_grad_batches"] = trainer.accumulate
    if trainer.clip_norm is not None:
        found |= {"gradient_clip_val": trainer.clip_norm, "gradient_clip_algorithm": "norm"}
    if trainer.clip_value is not None:
        found |= {"gradient_clip_val": trainer.clip_value, "gradient_clip_algorithm": "value"}
    if trainer.precision in ("16-mixed", "bf16-mixed"):
        found["precision"] = trainer.precision
    if trainer.precision in ("16-mixed", "tf32") and not world.gpus:
        raise UserError(f"trainer.precision {trainer.precision} needs a GPU; bf16-mixed and 32 work without")
    return found


def recipe_callbacks(recipe: Recipe) -> list[Callback]:
    """The callbacks of the keys that are used, in the order in which they have to run; none for a plain recipe."""
    trainer, found = recipe.trainer, list[Callback]()
    if trainer.accumulate > 1 and isinstance(recipe.task, Foreign):  # tasks of ours weigh batches by their samples
        found.append(LastGroup(trainer.accumulate))
    if trainer.image_sizes:
        found.append(ImageSizes(trainer.image_sizes, probe=not isinstance(recipe.task, Foreign)))
    if trainer.ema is not None:
        found.append(Averaging(trainer.ema))
    schedules = recipe.schedule.values() if isinstance(recipe.schedule, Mapping) else [recipe.schedule]
    if any(isinstance(each, Plateau) for each in schedules):
        found.append(Plateaus())
    if trainer.early_stopping is not None:
        found.append(Stopping(trainer.early_stopping, trainer.epochs))
    return found


class LastGroup(Callback):
    """Lets the batches that are left at the end of an epoch count as much as those of a whole group of ``accumulate``.

    Lightning divides the loss of each by the size of a whole group, and so makes the last step too short.
    """

    def __init__(self, accumulate: int) -> None:
        self._accumulate, self._batches = accumulate, 0

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "last_group"

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """One more batch in this group."""
        self._batches = batch_idx % self._accumulate + 1

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Correct the gradients of a group that is not whole."""
        if self._batches < self._accumulate:
            for parameter in pl_module.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(self._accumulate / self._batches)


def early_reason(trainer: Trainer) -> str:
    """Why a training ended before its last epoch by its own recipe; "" where it did not."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not annotate it
    return next((each.reason for each in callbacks if isinstance(each, Stopping)), "")


class Unprofiled(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a generator for each of the thirty things in a step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """A context that does nothing."""
        return self._nothing


@contextmanager
def computing(recipe: Recipe, task: LightningModule) -> Iterator[None]:
    """The body computes in the recipe's precision, with its network compiled where the recipe says so.

    32 means 32 bits also in convolutions, for which torch takes 19 on GPUs unless told otherwise.
    """
    before = hold_precisions()
    torch.set_float32_matmul_precision("high" if recipe.trainer.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = recipe.trainer.precision == "tf32"
    try:
        if recipe.trainer.compile:
            _compile(recipe, task)
        yield
    finally:
        before()
        if recipe.trainer.compile:
            torch.compiler.reset()  # a warm rank would soon reach the limit of compilations of one class's forward


def _compile(recipe: Recipe, task: LightningModule) -> None:
    """Compile what the model slot holds, in place: names of weights stay as they are."""
    network = getattr(task, "model", None)
    if recipe.model is None or not isinstance(network, nn.Module):
        raise UserError(
            "trainer.compile compiles what the slot `model` holds, as the task's attribute `model`; this task has none"
        )
    mode = "default" if recipe.trainer.compile is True else recipe.trainer.compile
    for each in network.values() if isinstance(network, nn.ModuleDict) else [network]:
        each.compile(mode=mode)
