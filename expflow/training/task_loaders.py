"""The loaders of a LightningModule that brings them itself, as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
"""The hooks that give loaders. What else a data module may have (``prepare_data``, ``setup``), Lightning calls on the
module itself."""


class TaskLoaders(LightningDataModule):
    """Base of what :func:`task_loaders` makes.

    Args:
        task: The module whose loaders they are.
    """

    def __init__(self, task: LightningModule) -> None:
        super().__init__()
        self.task = task


def overrides(module: LightningModule | LightningDataModule, hook: str) -> bool:
    """Whether a module has a hook of its own.

    Args:
        module: Of the user's.
        hook: Name of a method that both kinds of module inherit from Lightning.
    """
    return getattr(type(module), hook) is not getattr(LightningDataModule, hook)


def task_loaders(task: LightningModule) -> TaskLoaders:
    """A data module with those loaders that a module has.

    Args:
        task: The module.
    """
    methods = {hook: _passing(hook) for hook in LOADERS if overrides(task, hook)}
    loaders: TaskLoaders = type("TaskLoaders", (TaskLoaders,), methods)(task)
    return loaders


def _passing(hook: str) -> Callable[[TaskLoaders], Any]:
    return lambda self: getattr(self.task, hook)()
