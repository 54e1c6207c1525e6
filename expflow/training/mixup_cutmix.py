"""MixUp and CutMix in a training: each batch is mixed on the device, before any task sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from expflow.config.schema import Recipe
from expflow.data.augment.mixing import mix
from expflow.data.augment.specs import AugmentedSourceSpec, TrainTransform
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


class MixUpCutMix(Callback):
    """Mixes every training batch; its ``label`` (b,) becomes (b, classes), the shares of the classes.

    How much and where follows from the trial's seed and the number of the batch in the trial, so nothing has to be
    saved of it, and all ranks mix their shares of a batch alike.

    Args:
        spec: The keys under ``data.train``.
        classes: How many classes there are.
        seed: Seed of the trial.
    """

    def __init__(self, spec: TrainTransform, classes: int, seed: int) -> None:
        self._spec, self._classes, self._seed = spec, classes, seed

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "mixing"

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Put the mixed images and their labels in the batch."""
        if not (isinstance(batch, dict) and all(isinstance(batch.get(field), Tensor) for field in ("image", "label"))):
            raise UserError("data.train.mixup and cutmix need batches that are mappings with fields image and label")
        number = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx
        batch.update(mix(batch, self._spec, self._classes, seed=self._seed, step=number))


def mixing_callbacks(recipe: Recipe, spec: DataSpec, seed: int) -> list[Callback]:
    """The callback of a recipe that mixes; none where it does not.

    Args:
        recipe: What is trained.
        spec: Its data.
        seed: Seed of the trial.

    Raises:
        UserError: The recipe mixes, and the data have no classes.
    """
    data = recipe.data
    if (
        isinstance(data, Mapping)
        or not isinstance(data, AugmentedSourceSpec)
        or not (data.train.mixup or data.train.cutmix)
    ):
        return []
    if not spec.num_classes:
        raise UserError("data.train.mixup and cutmix mix the labels of classes, and these data have none")
    return [MixUpCutMix(data.train, spec.num_classes, seed)]
