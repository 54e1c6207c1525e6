"""Samples that could not be read and were left out (``on_bad_sample: skip``), counted in the run."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from expflow.config.component_specs import source_spec
from expflow.config.schema import Recipe
from expflow.training.contract import World
from expflow.training.ranks import sum_over_ranks
from expflow.training.trial_data import TrialData


class BadSampleCounter(Callback):
    """Logs how many samples of an epoch were left out, over all ranks.

    ``data/bad_samples`` of the training set, ``data/bad_samples_val`` of val: those are in none of the metrics.

    Args:
        train: The training loader, which counts them in its ``bad_samples``.
        val: The loader of val, likewise; None where there is none.
        world: This rank's place among the trial's ranks.
        whole_val: Whether every rank reads all of val.
    """

    def __init__(self, train: Any, val: Any, world: World, *, whole_val: bool = False) -> None:
        self._train, self._val, self._world, self._whole_val = train, val, world, whole_val

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; the training loader has its own."""
        return "bad_samples"

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Val has been read."""
        if trainer.state.fn == TrainerFn.FITTING and self._val is not None:
            self._log(pl_module, "data/bad_samples_val", self._val, World() if self._whole_val else self._world)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The training set has been read."""
        self._log(pl_module, "data/bad_samples", self._train, self._world)

    def _log(self, pl_module: LightningModule, name: str, loader: Any, world: World) -> None:
        [count] = sum_over_ranks([float(loader.bad_samples)], world)
        pl_module.log(name, count, batch_size=1)


def bad_sample_callbacks(recipe: Recipe, data: TrialData, world: World) -> list[Callback]:
    """The callback where bad samples are skipped; none where they end the trial.

    Args:
        recipe: What is trained.
        data: Its loaders.
        world: This rank's place among the trial's ranks.
    """
    skips = source_spec(recipe.data).skips_bad_samples and data.module is None
    return [BadSampleCounter(data.train, data.val, world, whole_val=data.whole_val)] if skips else []
