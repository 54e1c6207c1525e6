"""The time of one step of a recipe on this machine, measured on a few real steps."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from expflow.config.component_specs import LIGHTNING_RUNNER, source_spec
from expflow.config.schema import Recipe
from expflow.tasks import build_task
from expflow.training.checkpoints.writer import TrialCheckpointIO
from expflow.training.contract import Attempt, World, runner_of
from expflow.training.isolation import isolated, seed_everything
from expflow.training.lightning_switches import quiet_arguments
from expflow.training.manual_steps import step_counting_callbacks
from expflow.training.peak_memory import peak_bytes, reset_peak
from expflow.training.trainer_arguments import TrialTrainer
from expflow.training.transfer.freezing import freezing_callbacks
from expflow.training.trial_data import open_trial_data
from expflow.training.trial_logger import TrialLogger
from expflow.training.user_callbacks import user_callbacks

_WARM_UP = 2
"""Steps that are not counted: the first ones allocate memory and choose kernels."""


@dataclass(frozen=True)
class StepTiming:
    """Seconds of one training step and of one evaluated batch, and what they need.

    Attributes:
        train: Seconds of a training step, loading included.
        evaluate: Seconds of an evaluated batch, loading included.
        spread: Distance between the quartiles of the training steps, as a share of ``train``.
        state_bytes: Size of weights and optimizer state, which a checkpoint holds.
        peak_bytes: The most memory that the process took meanwhile; None where the system does not say.
    """

    train: float
    evaluate: float
    spread: float = 0.0
    state_bytes: int = 0
    peak_bytes: int | None = None

    def trial_seconds(self, recipe: Recipe, samples: Mapping[str, int]) -> float:
        """Seconds of a whole trial: its epochs, its validations, and ``fit/*`` over the training set at the end.

        Args:
            recipe: What is trained.
            samples: Samples of each split.
        """
        size = source_spec(recipe.data).samples_per_batch or 1
        train, val = (
            min(1, samples.get(split, 0)) if size == "all" else math.ceil(samples.get(split, 0) / size)
            for split in ("train", "val")
        )
        epochs = recipe.trainer.epochs
        validations = math.ceil(epochs / recipe.trainer.validate_every)
        return epochs * train * self.train + (validations * val + train) * self.evaluate


@dataclass
class _Stopwatch(Callback):
    train: list[float] = field(default_factory=list)
    evaluate: list[float] = field(default_factory=list)
    _last: float = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first step begins."""
        self._last = time.perf_counter()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """From the end of the last step to the end of this one, loading included."""
        self.train.append(self._lap())

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first batch begins."""
        self._last = time.perf_counter()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """As for training steps."""
        self.evaluate.append(self._lap())

    def _lap(self) -> float:
        now = time.perf_counter()
        self._last, before = now, self._last
        return now - before


def measure_steps(recipe: Recipe, data_root: Path, threads: int = 1, steps: int = 6) -> StepTiming | None:
    """Train a few steps, and measure them.

    Args:
        recipe: What is trained.
        data_root: The folder of prepared shards.
        threads: Compute threads.
        steps: Steps that are measured, after the warm-up.

    Returns:
        Medians over these steps; None where the task is not trained by Lightning.

    Raises:
        Exception: What the task raises while it is built or trained.
    """
    if runner_of(recipe) != LIGHTNING_RUNNER:
        return None
    world = World(threads=threads)
    with isolated(threads=threads, deterministic=True):
        seed_everything(0)
        data = open_trial_data(Attempt(recipe, 0, data_root), world)
        task = build_task(recipe, data.spec)
        stopwatch = _Stopwatch()
        counting = step_counting_callbacks(recipe, task)
        trainer = _trainer([*counting, *freezing_callbacks(recipe, task), *user_callbacks(recipe), stopwatch], steps)
        reset_peak()
        trainer.fit(task, **data.fit_arguments)
        peak = peak_bytes()
    trained = stopwatch.train[_WARM_UP:] or stopwatch.train[-1:] or [0.0]  # an epoch may be shorter than the warm-up
    evaluated = stopwatch.evaluate[1:] or stopwatch.evaluate or [0.0]
    train = statistics.median(trained)
    return StepTiming(
        train, statistics.median(evaluated), _spread(trained) / (train or 1.0), _state_bytes(task, trainer), peak
    )


def _trainer(callbacks: list[Callback], steps: int) -> TrialTrainer:
    return TrialTrainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        limit_train_batches=_WARM_UP + steps,
        limit_val_batches=steps,
        plugins=[TrialCheckpointIO(None, keeps=False)],
        **quiet_arguments(TrialLogger(), callbacks),
    )


def _spread(laps: list[float]) -> float:
    if len(laps) < 2:
        return 0.0
    low, _, high = statistics.quantiles(laps, n=4)
    return high - low


def _state_bytes(task: LightningModule, trainer: Trainer) -> int:
    """Weights and optimizer state, as a checkpoint holds them."""
    tensors = [*task.state_dict().values()]
    for optimizer in trainer.optimizers:
        tensors += [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.numel() * value.element_size() for value in tensors if isinstance(value, Tensor))
