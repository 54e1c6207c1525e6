"""Samples of a task at each validation, as artifacts of its trial."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from expflow.tasks.samples import SampleTable, drawn
from expflow.training.ema import ExponentialMovingAverage
from expflow.training.isolation import hold_random_state

SAMPLES = "samples"
"""Name of the artifact, and of the method ``draw_samples`` that gives it."""

RAW_SAMPLES = "samples_raw"
"""Name of the artifact of the weights as they are trained, beside that of their average."""

SEED = 20
"""Of the generator that a task draws with. One for all trials, so that trials draw of the same noise."""


class SampleWriter(Callback):
    """Calls ``draw_samples`` of the module at the end of each validation of a training, and keeps what it gives.

    The weights are those that the validation measured, the averaged ones where there are any. Training sees nothing of
    it: whatever random numbers are drawn, all generators are afterwards as they were.
    """

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and write."""
        self._write(trainer, pl_module, SAMPLES)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and write once more where the weights were averaged ones, which have given way to the trained ones."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not annotate it
        if any(isinstance(callback, ExponentialMovingAverage) for callback in callbacks):
            self._write(trainer, pl_module, RAW_SAMPLES)

    def _write(self, trainer: Trainer, pl_module: LightningModule, name: str) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not trainer.is_global_zero:
            return
        restore = hold_random_state()
        try:
            torch.manual_seed(SEED)
            draw: Any = pl_module.draw_samples
            with torch.no_grad():
                given = drawn(draw(torch.Generator().manual_seed(SEED)))
        finally:
            restore()
        artifacts: Any = trainer.artifacts  # type: ignore[attr-defined]  # every Trainer of a trial has them
        if isinstance(given, SampleTable):
            artifacts.write_table(name, given.csv(), trainer.global_step)
        elif given is not None:
            artifacts.write_image(name, given, trainer.global_step)


def sample_callbacks(task: LightningModule) -> list[Callback]:
    """The callback, where the module draws samples.

    Args:
        task: The recipe's module.
    """
    return [SampleWriter()] if callable(getattr(task, "draw_samples", None)) else []
