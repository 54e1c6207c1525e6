"""Writing one checkpoint of a Lightning training, by all ranks together.

Lightning collects the state; what it writes to and reads from is ours (a ``CheckpointIO``). Rank 0 writes what is the
same on all ranks, each rank its random state and the sums of its epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.io import CheckpointIO, TorchCheckpointIO
from pytorch_lightning import Trainer

from expflow.config.identity import config_id
from expflow.config.schema import Recipe
from expflow.errors import ExpflowError, StorageUnwritable
from expflow.ledger.lock import check_epoch
from expflow.training.checkpoints import training_state
from expflow.training.checkpoints.loading import LoadedCheckpoint
from expflow.training.checkpoints.selection import CHECKPOINTS_FOLDER
from expflow.training.checkpoints.storage import (
    CheckpointDraft,
    CheckpointManifest,
    HashingWriter,
    prune_checkpoints,
    remove_leftover_drafts,
    verify_checkpoint,
)
from expflow.training.checkpoints.tensor_files import WEIGHTS, plain_data, save_tensors, state_file
from expflow.training.contract import Attempt, Saved, World
from expflow.training.ranks import broadcast_object, gather_objects, sum_over_ranks

BAD_SAMPLES = "bad_samples"
"""Where a loader's state counts what a rank has left out in the epoch so far; a manifest counts all ranks'."""
NOT_NEEDED = ("hyper_parameters", "hparams_name", "hparams_type", "datamodule_hyper_parameters")
"""What Lightning would save of a module's constructor: the recipe has it, and it may hold any object."""

State = dict[str, Any]


class TrialCheckpointIO(CheckpointIO):
    """Connects Lightning's own saving and loading to our files: to the current draft, and to what was loaded.

    Args:
        loaded: The checkpoint that the training goes on from; None from the beginning.
        keeps: Whether a ModelCheckpoint of the user's writes files.
    """

    def __init__(self, loaded: LoadedCheckpoint | None, *, keeps: bool) -> None:
        self._loaded, self._keeps = loaded, keeps
        self._lightning = TorchCheckpointIO()
        self.write: Callable[[State], None] | None = None
        self.error: BaseException | None = None

    def save_checkpoint(self, checkpoint: State, path: Any, storage_options: Any = None) -> None:
        """Called on rank 0 alone, which must not raise here while the trial saves: the other ranks wait for it.

        What the user's own code saves (a ModelCheckpoint, ``trainer.save_checkpoint``) are Lightning's own files.
        """
        if self.write is None:
            if self._keeps:
                self._save_lightning_file(checkpoint, path)
            return
        try:
            self.write(checkpoint)
        except (ExpflowError, OSError, RuntimeError) as error:
            self.error = error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> State:
        """What :func:`~expflow.training.checkpoints.loading.load_checkpoint` has read and checked."""
        if self._loaded is not None and Path(path) == self._loaded.path:
            return self._loaded.trainer
        file: State = self._lightning.load_checkpoint(path, map_location, weights_only=True)
        return file

    def remove_checkpoint(self, path: Any) -> None:
        """A ModelCheckpoint of the user's removes a file that it wrote."""
        self._lightning.remove_checkpoint(path)

    def _save_lightning_file(self, checkpoint: State, path: Any) -> None:
        try:
            self._lightning.save_checkpoint(checkpoint, path)
        except OSError as error:
            raise StorageUnwritable(f"the checkpoint {path} cannot be written: {error.strerror or error}") from error


class CheckpointWriter:
    """Writes the checkpoints of one rank's attempt.

    Args:
        attempt: The trial, its folder and its fence.
        world: This rank's place among the trial's ranks.
        loaded: The checkpoint that the training goes on from; None from the beginning.
        seconds: Returns the seconds of training so far, over all attempts.
    """

    def __init__(
        self, attempt: Attempt, world: World, loaded: LoadedCheckpoint | None, seconds: Callable[[], float]
    ) -> None:
        self._attempt, self._world, self._seconds = attempt, world, seconds
        self._allow = attempt.recipe.trainer.checkpoint.allow
        self._tag = f"-e{attempt.fence.epoch if attempt.fence else 0}-a{attempt.number}"
        self.folder = attempt.folder / CHECKPOINTS_FOLDER if attempt.folder else None
        """Where checkpoints are written to; None: nowhere."""
        self.files = TrialCheckpointIO(loaded, keeps=attempt.folder is not None)
        self.loader: Any = None
        """The training loader, where it knows its position."""

    def remove_leftovers(self) -> None:
        """Remove what killed writers left half-written."""
        if self.folder is not None:
            remove_leftover_drafts(self.folder, self._tag)

    def write(self, trainer: Trainer, waiting: Mapping[str, State], *, between_epochs: bool) -> Saved | None:
        """Write one checkpoint. All ranks write their part, rank 0 puts the checkpoint in its place.

        Args:
            trainer: The Trainer within its fit.
            waiting: Sums of ``self.log`` that an earlier resume has not restored yet.
            between_epochs: Whether no epoch has begun since the last one ended.

        Returns:
            The checkpoint on rank 0; None on other ranks, and where the trial has no folder.

        Raises:
            DiskFull: There is no room.
            StorageUnwritable: This or another rank cannot write for another reason.
            StaleDriver: A newer driver has taken over.
        """
        if self.folder is None:
            return None
        draft = CheckpointDraft(self.folder, trainer.global_step, self._tag)
        rank = self._rank_state(trainer, waiting, between_epochs)
        position: State = {}
        error = self._write_parts(trainer, draft, rank, position, between_epochs)
        saved = None
        if self._world.rank == 0 and error is None:
            try:
                saved = self._commit(draft, trainer, position)
            except (ExpflowError, OSError) as own_error:
                error = own_error
        whole = trainer.strategy.reduce_boolean_decision(error is None, all=True)
        if error is not None:
            draft.discard()
            raise error
        if not whole:
            self._check_fence()
            raise StorageUnwritable(f"another rank could not write its part of {draft.final}")
        return saved

    def _write_parts(
        self, trainer: Trainer, draft: CheckpointDraft, rank: State, position: State, between_epochs: bool
    ) -> BaseException | None:
        """Write this rank's files; when it returns, those of all ranks are there. Returns why this rank could not.

        ``position`` is filled in on rank 0.
        """
        loader = {key: value for key, value in rank["loader"].items() if isinstance(value, int)}
        if BAD_SAMPLES in loader:
            loader[BAD_SAMPLES] = int(sum_over_ranks([float(loader[BAD_SAMPLES])], self._world)[0])

        def write_shared(checkpoint: State) -> None:
            position.update(self._write_shared(draft, checkpoint, rank, loader, between_epochs))

        self.files.write, self.files.error = write_shared, None
        error: BaseException | None = None
        try:
            if self._world.rank:
                draft.write(state_file(self._world.rank), lambda file: save_tensors({"rank": rank}, file))
        except (ExpflowError, OSError, RuntimeError) as own_error:
            error = own_error
            (draft.folder / state_file(self._world.rank)).unlink(missing_ok=True)
        trainer.save_checkpoint(draft.folder)  # its last act is a barrier: now all files are there
        self.files.write = None
        try:
            self._collect(draft)
        except (ExpflowError, OSError) as own_error:
            error = error or own_error
        return error or self.files.error

    def _collect(self, draft: CheckpointDraft) -> None:
        """Bring to rank 0 the files of ranks on other machines, whose disk it may not see."""
        world = self._world
        names = {rank: state_file(rank) for rank in range(1, world.ranks)}
        unseen = [rank for rank, name in names.items() if world.rank == 0 and not (draft.folder / name).exists()]
        unseen = broadcast_object(unseen, world)
        if not unseen:
            return
        own = draft.folder / state_file(world.rank)
        sent = own.read_bytes() if world.rank in unseen and own.exists() else None
        contents = gather_objects(sent, world)
        if world.rank in unseen:
            draft.discard()
        for rank in unseen if world.rank == 0 else ():
            if (content := contents[rank]) is not None:
                draft.write(names[rank], functools.partial(_write_bytes, content))

    def _rank_state(self, trainer: Trainer, waiting: Mapping[str, State], between_epochs: bool) -> State:
        empty: State = {"metrics": {}, "logged": {}, "task": {}}
        task = trainer.lightning_module
        state = {
            "random": training_state.random_state(),
            "epoch": empty if between_epochs else training_state.epoch_state(task, trainer, waiting),
            "metrics": {name: value.detach() for name, value in trainer.callback_metrics.items()},
            "loader": dict(self.loader.state_dict()) if self.loader is not None else {},
        }
        checked: State = plain_data(state, "the state of this rank", self._allow)
        return checked

    def _write_shared(
        self, draft: CheckpointDraft, checkpoint: State, rank: State, loader: Mapping[str, int], between_epochs: bool
    ) -> State:
        """Rank 0's files. Returns the position that the manifest names."""
        kept = {key: value for key, value in checkpoint.items() if key not in (*NOT_NEEDED, "state_dict")}
        if between_epochs:
            training_state.settle_between_epochs(kept["loops"])
        weights = plain_data(checkpoint["state_dict"], "state_dict", self._allow)
        shared = plain_data(kept, "checkpoint", self._allow)
        draft.write(WEIGHTS, lambda file: save_tensors(weights, file))
        draft.write(state_file(0), lambda file: save_tensors({"trainer": shared, "rank": rank}, file))
        epoch, batch = training_state.position(kept["loops"])
        return {"epoch": epoch, "batch": batch, "loader": dict(loader)}

    def _commit(self, draft: CheckpointDraft, trainer: Trainer, position: Mapping[str, Any]) -> Saved:
        attempt, fence = self._attempt, self._attempt.fence
        manifest = CheckpointManifest(
            step=trainer.global_step,
            config=config_id(attempt.recipe),
            seed=attempt.seed,
            forks=attempt.forks,
            ranks=self._world.ranks,
            seconds=self._seconds(),
            budget=training_budget(attempt.recipe),
            lock_epoch=fence.epoch if fence else None,
            versions=_versions(),
            **position,
        )
        others = tuple(state_file(rank) for rank in range(1, self._world.ranks))
        draft.commit(manifest, others, self._check_fence)
        written = verify_checkpoint(draft.final)
        prune_checkpoints(draft.final.parent, attempt.recipe.trainer.checkpoint.keep, draft.final)
        return Saved(written.step, draft.final, written.sha256, written.size)

    def _check_fence(self) -> None:
        """Raise StaleDriver where a newer driver has taken over."""
        if self._attempt.fence is not None:
            check_epoch(self._attempt.fence.folder, self._attempt.fence.epoch)


def _write_bytes(content: bytes, file: HashingWriter) -> None:
    file.write(content)


def training_budget(recipe: Recipe) -> dict[str, Any]:
    """How long a recipe trains, as checkpoints record it.

    Args:
        recipe: Any recipe.
    """
    return {"epochs": recipe.trainer.epochs}


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("expflow", "torch", "pytorch-lightning")}
