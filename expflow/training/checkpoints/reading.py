"""A checkpoint in memory, for one rank of a training that goes on from it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule

from expflow.errors import CheckpointMismatch
from expflow.training.checkpoints.choice import Choice
from expflow.training.checkpoints.folder import Manifest
from expflow.training.checkpoints.tensors import WEIGHTS, difference, load, state_file
from expflow.training.contract import World

logger = logging.getLogger(__name__)
State = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory: what Lightning restores, what this rank does, and what the manifest says."""

    path: Path
    manifest: Manifest
    borrowed: bool
    trainer: State
    rank: State | None

    @property
    def within_epoch(self) -> bool:
        """Whether an epoch has begun."""
        return self.manifest.batch > 0


def read(choice: Choice, task: LightningModule, world: World, allow: tuple[str, ...]) -> Loaded | None:
    """The chosen checkpoint for this rank; None where there is none.

    A rank that had no part in writing it (another trial did, or there were other ranks) draws random numbers of its own
    from there on, and counts the metrics of an unfinished epoch anew.
    Raises CheckpointMismatch, naming layers and both shapes, where it is of another architecture.
    """
    if choice.path is None or choice.manifest is None:
        return None
    weights = load(choice.path / WEIGHTS, allow)
    if different := difference(weights, task.state_dict()):
        raise CheckpointMismatch(f"{choice.path} is of another architecture:\n{different}")
    shared = load(choice.path / state_file(0), allow)
    restored: State = {**shared["trainer"], "state_dict": weights}
    restored["loops"]["fit_loop"]["state_dict"].pop("combined_loader", None)  # the checkpointer's to restore
    if choice.manifest.ranks != world.ranks:
        logger.warning("%s was written by %d ranks, now there are %d", choice.path, choice.manifest.ranks, world.ranks)
    if choice.borrowed or choice.manifest.ranks != world.ranks:
        return Loaded(choice.path, choice.manifest, choice.borrowed, restored, None)
    mine = shared["rank"] if world.rank == 0 else load(choice.path / state_file(world.rank), allow)["rank"]
    return Loaded(choice.path, choice.manifest, False, restored, mine)
