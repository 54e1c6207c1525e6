"""What the keys under ``trainer`` mean to Lightning: arguments of its Trainer, and callbacks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint
from pytorch_lightning.profilers import PassThroughProfiler
from torch import nn

from expflow.config.component_specs import task_spec
from expflow.config.schema import Recipe
from expflow.config.spec import UserComponent
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim.specs import PlateauSpec
from expflow.training.artifacts import ArtifactWriter
from expflow.training.contract import World
from expflow.training.ema import ExponentialMovingAverage
from expflow.training.metric_callbacks import EarlyStopper, PlateauUpdater
from expflow.training.progressive_resizing import ProgressiveResizing
from expflow.training.torch_state import hold_precisions
from expflow.training.transfer.freezing import frees_later


class TrialTrainer(Trainer):
    """Lightning's Trainer, with ``artifacts`` for modules and callbacks that write pictures or tables.

    Outside of a trial (an evaluation, a measurement) the writer discards what it is given.
    """

    artifacts: ArtifactWriter = ArtifactWriter()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Signals are for whoever runs the trial: Lightning's handlers would end the process with nothing saved, and one
        # of them waits for other ranks, which were sent no signal.
        self._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]

    @property
    def checkpoint_callback(self) -> Checkpoint | None:
        """The user's first ModelCheckpoint: expflow's own callbacks have no ``best_model_path`` to ask for."""
        callbacks: list[Checkpoint] = self.checkpoint_callbacks
        return next((callback for callback in callbacks if isinstance(callback, ModelCheckpoint)), None)


def _nothing() -> None:
    pass


def trainer_arguments(recipe: Recipe, world: World) -> dict[str, Any]:
    """Arguments of Lightning's Trainer for the keys that are used.

    Args:
        recipe: What is trained.
        world: This rank's place among the trial's ranks.

    Raises:
        UserError: A precision needs a GPU, and there is none.
    """
    trainer, arguments = recipe.trainer, dict[str, Any]()
    if "profiler" not in trainer.lightning:
        arguments["profiler"] = NoOpProfiler()
    if world.gpus and not {"benchmark", "deterministic"} & trainer.lightning.keys():
        arguments["benchmark"] = True  # convolutions by the algorithm that is quickest for their sizes
    if trainer.accumulate > 1:
        arguments["accumulate_grad_batches"] = trainer.accumulate
    if trainer.clip_norm is not None:
        arguments |= {"gradient_clip_val": trainer.clip_norm, "gradient_clip_algorithm": "norm"}
    if trainer.clip_value is not None:
        arguments |= {"gradient_clip_val": trainer.clip_value, "gradient_clip_algorithm": "value"}
    if trainer.precision in ("16-mixed", "bf16-mixed"):
        arguments["precision"] = trainer.precision
    if trainer.precision in ("16-mixed", "tf32") and not world.gpus:
        raise UserError(f"trainer.precision {trainer.precision} needs a GPU; bf16-mixed and 32 work without")
    return arguments


def may_have_unused_parameters(recipe: Recipe) -> bool:
    """Whether DDP has to look for parameters without gradients in each step.

    A user's module may have some, as one with two networks that take turns has, and works on one rank; looking costs
    some percent of a step, and ``trainer.lightning: {strategy: ddp}`` says that there are none.

    Args:
        recipe: What is trained.
    """
    if task_spec(recipe.task).networks:  # they move in turns
        return True
    strategy = recipe.trainer.lightning.get("strategy", "auto")
    if strategy == "auto":
        return isinstance(recipe.task, UserComponent) or frees_later(recipe.init)
    return strategy == "ddp_find_unused_parameters_true" or frees_later(recipe.init)


_UNUSED = re.compile(r"parameters that were not used in producing|finished reduction in the prior iteration")
"""What Lightning and torch say of parameters without a gradient that nobody looked for."""


@contextmanager
def explained_unused_parameters(recipe: Recipe) -> Iterator[None]:
    """Run the body, and name the key where DDP meets parameters without a gradient that it was told are not there.

    Args:
        recipe: What is trained.

    Raises:
        UserError: The module has such parameters.
    """
    try:
        yield
    except RuntimeError as error:
        if not _UNUSED.search(str(error)):
            raise
        strategy = recipe.trainer.lightning.get("strategy", "auto")
        raise UserError(
            f"trainer.lightning.strategy: {strategy} says that each parameter has a gradient in every step, and here"
            " some have none, as those of networks that take turns; leave it out, and DDP looks for them in each step"
            if strategy != "auto"
            else "some parameters have no gradient in a step, and with several ranks DDP has to be told that: set"
            " trainer.lightning: {strategy: ddp_find_unused_parameters_true}"
        ) from error


def recipe_callbacks(recipe: Recipe, data_spec: DataSpec) -> list[Callback]:
    """The callbacks of the keys that are used, in the order in which they have to run; none for a plain recipe.

    Args:
        recipe: What is trained.
        data_spec: The data that it is trained on.
    """
    trainer, callbacks = recipe.trainer, list[Callback]()
    own_task = isinstance(recipe.task, UserComponent)
    if trainer.accumulate > 1 and own_task:  # tasks of ours weigh batches by their samples
        callbacks.append(AccumulationRescaling(trainer.accumulate))
    if trainer.image_sizes:
        masks = (*data_spec.of_kind("mask"), *data_spec.of_kind("instances"))
        callbacks.append(ProgressiveResizing(trainer.image_sizes, probe=not own_task, masks=masks))
    if trainer.ema is not None:
        callbacks.append(ExponentialMovingAverage(trainer.ema))
    schedules = recipe.schedule.values() if isinstance(recipe.schedule, Mapping) else [recipe.schedule]
    if any(isinstance(schedule, PlateauSpec) for schedule in schedules):
        callbacks.append(PlateauUpdater())
    if trainer.early_stopping is not None:
        callbacks.append(EarlyStopper(trainer.early_stopping, trainer.epochs))
    return callbacks


class AccumulationRescaling(Callback):
    """Lets the batches that are left at the end of an epoch count as much as those of a whole group.

    Lightning divides the loss of each by the size of a whole group, and so makes the last step too short.

    Args:
        accumulate: Batches whose gradients make one optimizer step.
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


def early_stop_reason(trainer: Trainer) -> str:
    """Why a training ended before its last epoch by its own recipe; "" where it did not.

    Args:
        trainer: The Trainer after its fit.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not annotate it
    reasons = (
        callback.reason if isinstance(callback, EarlyStopper) else getattr(callback, "stopping_reason_message", "")
        for callback in callbacks
    )
    return next(filter(None, reasons), "")


class NoOpProfiler(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a generator for each of the thirty actions in a step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """A context that does nothing."""
        return self._nothing


@contextmanager
def precision_and_compilation(recipe: Recipe, task: LightningModule) -> Iterator[None]:
    """In the body torch computes in the recipe's precision, with the network compiled where the recipe says so.

    32 means 32 bits also in convolutions, for which torch takes 19 on GPUs by default.

    Args:
        recipe: What is trained.
        task: The module whose network, under ``model``, is compiled.
    """
    restore = hold_precisions()
    torch.set_float32_matmul_precision("high" if recipe.trainer.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = recipe.trainer.precision == "tf32"
    try:
        if recipe.trainer.compile:
            _compile(recipe, task)
        yield
    finally:
        restore()
        if recipe.trainer.compile:
            torch.compiler.reset()  # a warm rank would soon reach the limit of compilations of one class's forward


def _compile(recipe: Recipe, task: LightningModule) -> None:
    """Compile what the model slot holds, in place: names of weights stay as they are."""
    content = getattr(task, "model", None)
    if recipe.model is None or not isinstance(content, nn.Module):
        raise UserError(
            "trainer.compile compiles what the slot `model` holds, as the task's attribute `model`; this task has none"
        )
    mode = "default" if recipe.trainer.compile is True else recipe.trainer.compile
    for network in content.values() if isinstance(content, nn.ModuleDict) else [content]:
        network.compile(mode=mode)
