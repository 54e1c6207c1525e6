"""A checkpoint in memory, for one rank of a training that goes on from it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule

from expflow.errors import CheckpointDamaged, CheckpointMismatch
from expflow.training.checkpoints.selection import CheckpointSelection
from expflow.training.checkpoints.storage import CheckpointManifest
from expflow.training.checkpoints.tensor_files import WEIGHTS, load_tensors, shape_differences, state_file
from expflow.training.contract import World

logger = logging.getLogger(__name__)
State = dict[str, Any]


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint in memory.

    Attributes:
        path: Its folder.
        manifest: What it is.
        borrowed: Whether another trial saved it.
        trainer: What Lightning restores.
        rank: What this rank restores; None where it had no part in writing it.
    """

    path: Path
    manifest: CheckpointManifest
    borrowed: bool
    trainer: State
    rank: State | None

    @property
    def within_epoch(self) -> bool:
        """Whether an epoch has begun."""
        return self.manifest.batch > 0


def load_checkpoint(
    selection: CheckpointSelection, task: LightningModule, world: World, allow: tuple[str, ...]
) -> LoadedCheckpoint | None:
    """The selected checkpoint for this rank; None where there is none.

    A rank that had no part in writing it (another trial did, or there were other ranks) draws random numbers of its own
    from there on, and counts the metrics of an unfinished epoch anew.

    Args:
        selection: The checkpoint, which has been verified.
        task: The module that its weights go into.
        world: This rank's place among the trial's ranks.
        allow: Classes (``package.module:Name``) that the files may hold besides tensors and plain data.

    Raises:
        CheckpointMismatch: It is of another architecture; the message names layers and both shapes.
        CheckpointUnsafe: It holds something that ``allow`` does not name.
        CheckpointDamaged: A file of it holds no state of a training.
    """
    if selection.path is None or selection.manifest is None:
        return None
    weights = load_tensors(selection.path / WEIGHTS, allow)
    if different := shape_differences(weights, task.state_dict()):
        raise CheckpointMismatch(f"{selection.path} is of another architecture:\n{different}")
    shared = _read_state(selection.path / state_file(0), allow)
    restored: State = {**shared["trainer"], "state_dict": weights}
    restored["loops"]["fit_loop"]["state_dict"].pop("combined_loader", None)  # the checkpointer's to restore
    if selection.manifest.ranks != world.ranks:
        ranks = selection.manifest.ranks
        logger.warning("%s was written by %d ranks, now there are %d", selection.path, ranks, world.ranks)
    if selection.borrowed or selection.manifest.ranks != world.ranks:
        return LoadedCheckpoint(selection.path, selection.manifest, selection.borrowed, restored, None)
    own = shared["rank"] if world.rank == 0 else _read_state(selection.path / state_file(world.rank), allow)["rank"]
    return LoadedCheckpoint(selection.path, selection.manifest, False, restored, own)


def _read_state(path: Path, allow: tuple[str, ...]) -> State:
    """What a rank kept. Raises CheckpointDamaged where the file holds something else."""
    state = load_tensors(path, allow)
    if not isinstance(state, dict) or not isinstance(state.get("rank"), dict):
        raise CheckpointDamaged(f"{path} does not hold the state of a training")
    return state
