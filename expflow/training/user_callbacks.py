"""Callbacks of the user's: those named under ``trainer.callbacks``, and where the files of Lightning's own ones go."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, ModelSummary, ProgressBar

from expflow.config.schema import Recipe
from expflow.errors import ExpflowError, UserError
from expflow.lightning_alias import two_lightnings
from expflow.registry import construct
from expflow.training.trial_logger import LIGHTNING_FOLDER

logger = logging.getLogger(__name__)


def user_callbacks(recipe: Recipe) -> list[Callback]:
    """The callbacks under ``trainer.callbacks``, built, in the order of the file.

    Progress bars and model summaries are left out: a trial has no terminal.

    Args:
        recipe: What is trained.

    Raises:
        UserError: One cannot be built, or is no Callback; the message has the reason.
    """
    callbacks = list[Callback]()
    for number, spec in enumerate(recipe.trainer.callbacks):
        key = f"trainer.callbacks.{number}"
        try:
            callback = construct(spec.name, spec.arguments, {})
        except ExpflowError as error:
            raise UserError(f"{key}: {error}") from error
        except Exception as error:  # a constructor of the user's may raise anything: it is their reason
            raise UserError(f"{key}: {spec.name} cannot be built: {type(error).__name__}: {error}") from error
        if not isinstance(callback, Callback):
            kind = type(callback).__name__
            raise UserError(f"{key}: {spec.name} is a {kind}; a Callback of Lightning's is needed{two_lightnings()}")
        if isinstance(callback, ProgressBar | ModelSummary):
            logger.warning("%s: %s is left out: a trial has no terminal of its own", key, spec.name)
        else:
            callbacks.append(callback)
    return callbacks


class CheckpointFolders(Callback):
    """Has each ModelCheckpoint of the user's write into the trial's folder.

    Else the trials of a sweep would write over each other's files, on whichever machine and in whichever folder each of
    them runs.

    Args:
        folder: The trial's folder; None where it keeps nothing, and checkpoints are not written at all.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "checkpoint_folders"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Before the callbacks' own ``setup``, which looks at the folder."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not annotate it
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is not None and self._folder is not None:
                callback.dirpath = str(within(self._folder / LIGHTNING_FOLDER, str(callback.dirpath)))


def within(folder: Path, wanted: str) -> Path:
    """Where in a trial's folder the files lie that a ModelCheckpoint would write elsewhere.

    Args:
        folder: The folder for such files.
        wanted: What it was built with, as an absolute path, or an address.

    Raises:
        UserError: It is an address, where all trials would write the same files.
    """
    if "://" in wanted:
        raise UserError(
            f"ModelCheckpoint(dirpath={wanted!r}): all trials would write the same files there; leave dirpath out, and"
            " the files lie in each trial's folder"
        )
    path = Path(wanted)
    if path.is_relative_to(folder):
        return path
    here = Path(os.path.realpath(Path.cwd()))
    return folder / (path.relative_to(here) if path.is_relative_to(here) else path.name or "checkpoints")
