"""How long one step of a recipe takes here: a few real steps, timed."""

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

from expflow.config.schema import Recipe
from expflow.tasks import build_task
from expflow.training.contract import LIGHTNING, Attempt, World, runner_of
from expflow.training.feed import open_feed
from expflow.training.isolation import isolated, seed_everything
from expflow.training.peaks import peak_bytes, reset_peak
from expflow.training.transfer.freezing import freezing_callbacks

_WARM_UP = 2
"""Steps that are not counted: the first ones allocate memory and choose kernels."""


@dataclass(frozen=True)
class Steps:
    """Seconds of one training step and of one evaluated batch, and what they need.

    ``spread`` is the distance between the quartiles of the training steps, as a share of ``train``. ``state_bytes`` is
    the size of weights and optimizer state, which a checkpoint holds; ``peak_bytes`` the most memory that the process
    took meanwhile, None where the system does not say.
    """

    train: float
    evaluate: float
    spread: float = 0.0
    state_bytes: int = 0
    peak_bytes: int | None = None

    def trial_seconds(self, recipe: Recipe, samples: Mapping[str, int]) -> float:
        """A whole trial: its epochs, its validations, and ``fit/*`` over the training set at the end."""
        size = getattr(recipe.data, "batch_size", 1)
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


def measure_steps(recipe: Recipe, data_root: Path, threads: int = 1, steps: int = 6) -> Steps | None:
    """Medians over ``steps`` steps; None where the task is not trained by Lightning.

    Raises what the task raises while it is built or trained.
    """
    if runner_of(recipe) != LIGHTNING:
        return None
    world = World(threads=threads)
    with isolated(threads=threads, deterministic=True):
        seed_everything(0)
        feed = open_feed(Attempt(recipe, 0, data_root), world)
        task = build_task(recipe, feed.spec)
        watch = _Stopwatch()
        limits: dict[str, Any] = {
            "max_epochs": 1,
            "limit_train_batches": _WARM_UP + steps,
            "limit_val_batches": steps,
        }
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            callbacks=[*freezing_callbacks(recipe, task), watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **limits,
        )
        reset_peak()
        trainer.fit(task, **feed.for_fit)
        peak = peak_bytes()
    trained = watch.train[_WARM_UP:] or watch.train[-1:] or [0.0]  # an epoch may have less steps than the warm-up
    evaluated = watch.evaluate[1:] or watch.evaluate or [0.0]
    train = statistics.median(trained)
    return Steps(
        train, statistics.median(evaluated), _spread(trained) / (train or 1.0), _state_bytes(task, trainer), peak
    )


def _spread(laps: list[float]) -> float:
    if len(laps) < 2:
        return 0.0
    low, _, high = statistics.quantiles(laps, n=4)
    return high - low


def _state_bytes(task: LightningModule, trainer: Trainer) -> int:
    """Weights and optimizer state, as a checkpoint holds them."""
    kept = [*task.state_dict().values()]
    for optimizer in trainer.optimizers:
        kept += [each for state in optimizer.state.values() for each in state.values()]
    return sum(each.numel() * each.element_size() for each in kept if isinstance(each, Tensor))
