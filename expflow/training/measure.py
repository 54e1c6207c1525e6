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

from expflow.config.schema import Recipe
from expflow.tasks import build_task
from expflow.training.contract import LIGHTNING, Attempt, World, runner_of
from expflow.training.feed import open_feed
from expflow.training.isolation import isolated, seed_everything
from expflow.training.transfer.freezing import freezing_callbacks

_WARM_UP = 2
"""Steps that are not counted: the first ones allocate memory and choose kernels."""


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of one training step and of one evaluated batch."""

    train: float
    evaluate: float

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


def step_seconds(recipe: Recipe, data_root: Path, threads: int = 1, steps: int = 6) -> StepSeconds | None:
    """Median seconds of a step over ``steps`` of them; None where the task is not trained by Lightning.

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
        trainer.fit(task, **feed.for_fit)
    trained = watch.train[_WARM_UP:] or watch.train[-1:] or [0.0]  # an epoch may have less steps than the warm-up
    evaluated = watch.evaluate[1:] or watch.evaluate or [0.0]
    return StepSeconds(statistics.median(trained), statistics.median(evaluated))
