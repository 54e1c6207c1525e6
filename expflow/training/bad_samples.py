"""Samples that could not be read and were left out (``on_bad_sample: skip``), counted in the run."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from expflow.config.schema import Recipe
from expflow.training.contract import World
from expflow.training.feed import Feed
from expflow.training.ranks import summed


class BadSamples(Callback):
    """Logs how many samples of an epoch were left out, over all ranks.

    ``data/bad_samples`` of the training set, ``data/bad_samples_val`` of val: those are in none of the metrics.
    """

    def __init__(self, train: Any, val: Any, world: World) -> None:
        self._train, self._val, self._world = train, val, world

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; the training loader has its own."""
        return "bad_samples"

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Val has been read."""
        if trainer.state.fn == TrainerFn.FITTING and self._val is not None:
            self._log(pl_module, "data/bad_samples_val", self._val)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The training set has been read."""
        self._log(pl_module, "data/bad_samples", self._train)

    def _log(self, pl_module: LightningModule, name: str, loader: Any) -> None:
        [count] = summed([float(loader.bad_samples)], self._world)
        pl_module.log(name, count, batch_size=1)


def bad_sample_callbacks(recipe: Recipe, feed: Feed, world: World) -> list[Callback]:
    """The callback where bad samples are skipped; none where they end the trial."""
    skips = getattr(recipe.data, "on_bad_sample", "fail") == "skip" and feed.module is None
    return [BadSamples(feed.train, feed.val, world)] if skips else []
