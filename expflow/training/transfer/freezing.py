"""Freezing a part of a network: parameters without gradients, norms and dropout in eval mode, for some epochs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import nn

from expflow.architectures.heads import check_paths, path_selector
from expflow.config.initial_weights import Init
from expflow.config.schema import Recipe
from expflow.errors import UserError
from expflow.training.transfer.weight_loading import network_of

KEY = "init.freeze"


class FrozenPart:
    """The parameters and modules of a network at and below some paths.

    Args:
        network: The network.
        paths: Dotted paths in it; ``backbone`` is all but the heads.

    Raises:
        UserError: A path leads nowhere (the message names the nearest that does not), or nothing is left to train.
    """

    def __init__(self, network: nn.Module, paths: Iterable[str]) -> None:
        paths = tuple(paths)
        check_paths(network, paths, KEY)
        chosen = path_selector(network, paths)
        named = list(network.named_parameters())
        self.parameters = [weight for name, weight in named if chosen(name) and weight.requires_grad]
        self.modules = [module for name, module in network.named_modules() if name and chosen(name)]
        if len(self.parameters) == sum(weight.requires_grad for _, weight in named):
            raise UserError(f"{KEY}: nothing of the network is left to train")

    def freeze(self) -> None:
        """No gradients from here on."""
        for parameter in self.parameters:
            parameter.requires_grad_(False)
            parameter.grad = None

    def thaw(self) -> None:
        """Train it like the rest."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        for module in self.modules:
            module.training = True

    def evaluate(self) -> None:
        """Eval mode again, where the whole network was put into train mode."""
        if self.modules and self.modules[0].training:
            for module in self.modules:
                module.training = False


class Freezing(Callback):
    """Keeps a part of a network frozen for some epochs.

    The optimizer holds all parameters from the beginning, and passes over those without gradients: a checkpoint is the
    same before and after the part is thawed, so a training can be interrupted and continued anywhere.

    Args:
        part: What is frozen.
        epochs: For how many epochs; None: for all.
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
        """A training begins, or goes on, before the part is thawed or after it."""
        if self._epochs is not None and trainer.current_epoch < self._epochs:
            self._freeze()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the last frozen epoch everything is trained."""
        if self._frozen and self._epochs is not None and trainer.current_epoch >= self._epochs:
            self._part.thaw()
            self._frozen = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Validation has put the network back into train mode."""
        if self._frozen:
            self._part.evaluate()


def freezing_callbacks(recipe: Recipe, task: LightningModule) -> list[Callback]:
    """The callback of a recipe that freezes a part of its network; none where it freezes nothing.

    Args:
        recipe: What is trained.
        task: The module with its network.

    Raises:
        UserError: A path leads nowhere, or nothing is left to train.
    """
    init = recipe.init
    if init is None or not init.frozen:
        return []
    return [Freezing(FrozenPart(network_of(task), init.frozen), init.unfreeze_after)]


def frees_later(init: Init | None) -> bool:
    """Whether some parameters have gradients in a part of the training alone.

    Args:
        init: The recipe's ``init``.
    """
    return init is not None and init.unfreeze_after is not None
