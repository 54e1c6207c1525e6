"""What a training leaves alone: parameters without gradients, norms and dropout in eval mode, for so many epochs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import nn

from expflow.architectures.heads import check_paths, selector
from expflow.config.initial import Init
from expflow.config.schema import Recipe
from expflow.errors import UserError
from expflow.training.transfer.weights import network_of

KEY = "init.freeze"


class FrozenPart:
    """The parameters and modules of ``network`` at and below ``paths``; ``backbone`` is all but the heads.

    Raises :class:`UserError` where a path leads nowhere, with the nearest that does not, or nothing is left to train.
    """

    def __init__(self, network: nn.Module, paths: Iterable[str]) -> None:
        paths = tuple(paths)
        check_paths(network, paths, KEY)
        chosen = selector(network, paths)
        named = list(network.named_parameters())
        self.parameters = [each for name, each in named if chosen(name) and each.requires_grad]
        self.modules = [each for name, each in network.named_modules() if name and chosen(name)]
        if len(self.parameters) == sum(each.requires_grad for _, each in named):
            raise UserError(f"{KEY}: nothing of the network is left to train")

    def freeze(self) -> None:
        """No gradients from here on."""
        for each in self.parameters:
            each.requires_grad_(False)
            each.grad = None

    def thaw(self) -> None:
        """Train it like the rest."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        for module in self.modules:
            module.training = True

    def evaluate(self) -> None:
        """Eval mode, wherever somebody has put the whole network back into train mode."""
        if self.modules and self.modules[0].training:
            for module in self.modules:
                module.training = False


class Freezing(Callback):
    """Keeps ``part`` frozen for ``epochs`` epochs; None: for all.

    The optimizer holds all parameters from the beginning, and passes over those without gradients: a checkpoint is the
    same on both sides of the border, so a training can be cut and continued anywhere.
    """

    def __init__(self, part: FrozenPart, epochs: int | None) -> None:
        self._part, self._epochs, self._frozen = part, epochs, False
        if epochs is None:  # otherwise only when ranks are connected, which looks at what has gradients
            self._freeze()

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none, it follows from the epoch."""
        return "freezing"

    def _freeze(self) -> None:
        self._part.freeze()
        self._frozen = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A training begins, or goes on, on one side of the border."""
        if self._epochs is not None and trainer.current_epoch < self._epochs:
            self._freeze()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first epoch behind the border trains everything."""
        if self._frozen and self._epochs is not None and trainer.current_epoch >= self._epochs:
            self._part.thaw()
            self._frozen = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Validation has put the network back into train mode."""
        if self._frozen:
            self._part.evaluate()


def freezing_callbacks(recipe: Recipe, task: LightningModule) -> list[Callback]:
    """What the recipe freezes of ``task``; none where it freezes nothing. Raises :class:`UserError`."""
    init = recipe.init
    if init is None or not init.frozen:
        return []
    return [Freezing(FrozenPart(network_of(task), init.frozen), init.unfreeze_after)]


def frees_later(init: Init | None) -> bool:
    """Whether some parameters have gradients in a part of the training alone."""
    return init is not None and init.unfreeze_after is not None
