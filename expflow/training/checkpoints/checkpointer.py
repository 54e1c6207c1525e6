"""When a Lightning training is saved, and how it is restored.

States are taken where nothing is half done: between two batches, when the loader is asked for the next one, or between
two epochs, when the next one begins. Within an epoch that needs a loader that knows its position; a training on another
loader is saved between epochs alone.

All ranks save at the same steps. Whether it is time to save, or whether one of them has to leave, is agreed on about
once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from expflow.errors import CheckpointMismatch, Preempted, RanksDisagree
from expflow.training.checkpoints import training_state
from expflow.training.checkpoints.loading import LoadedCheckpoint
from expflow.training.checkpoints.resumable_loader import PositionedLoader, resumable_loader
from expflow.training.checkpoints.schedule_extension import schedule_mismatch
from expflow.training.checkpoints.writer import (
    BAD_SAMPLES,
    CheckpointWriter,
    State,
    TrialCheckpointIO,
    training_budget,
)
from expflow.training.contract import Attempt, Leave, OnNotice, World
from expflow.training.ranks import max_over_ranks

AGREE_SECONDS = 1.0
"""About how often the ranks of a trial agree on whether to save or to leave."""
MOST_STEPS = 64
"""Most steps between two such agreements."""


class Checkpointer(Checkpoint):
    """Saves a trial's state by the keys under ``trainer.checkpoint``, and restores it.

    A ``Checkpoint`` to Lightning, so that its hooks run behind those of other callbacks.

    Args:
        attempt: The trial, its folder and its fence.
        world: This rank's place among the trial's ranks.
        loaded: The checkpoint that the training goes on from; None from the beginning.
        check: Called before saving; raises where the weights are not worth it.
        notify: Called on rank 0 with each checkpoint.
        leave: Asked after each batch whether this process has to go.
    """

    def __init__(
        self,
        attempt: Attempt,
        world: World,
        *,
        loaded: LoadedCheckpoint | None,
        check: Callable[[], None],
        notify: OnNotice,
        leave: Leave,
    ) -> None:
        self._attempt, self._world, self._loaded = attempt, world, loaded
        self._check, self._notify, self._leave = check, notify, leave
        self._keys = attempt.recipe.trainer.checkpoint
        self._writer = CheckpointWriter(attempt, world, loaded, lambda: self.seconds)
        self._waiting: dict[str, State] = dict(loaded.rank["epoch"]["logged"]) if loaded and loaded.rank else {}
        self._begun = self._saved_at = time.monotonic()
        self._spent = loaded.manifest.seconds if loaded else 0.0
        self._saved_step = loaded.manifest.step if loaded else 0
        self._step, self._stepped = self._saved_step, False
        self._ask_at = 0
        self._asked_to_leave = self._leave_agreed = False
        self._trainer: Trainer | None = None
        self._own_settings: training_state.OptimizerSettings | None = None

    @property
    def files(self) -> TrialCheckpointIO:
        """What Lightning's Trainer saves to and loads from."""
        return self._writer.files

    def watch(self, loader: Any) -> Any:
        """A loader so that a training on it can be saved: between epochs, and within them if it has a position.

        Args:
            loader: The training loader, or several.
        """
        watched = resumable_loader(loader, self.between_batches)
        self._writer.loader = loader if isinstance(watched, PositionedLoader) else None
        return watched

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all attempts."""
        return self._spent + time.monotonic() - self._begun

    # restoring

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a checkpoint that does not fit, and restore the metrics of earlier epochs."""
        self._trainer = trainer
        if self._world.ranks > 1:
            training_state.disable_sigterm_broadcast(trainer)
            self._agree_on_the_start()
        if trainer.is_global_zero:
            self._writer.remove_leftovers()
        if self._loaded is None:
            return
        if self._loaded.manifest.budget != training_budget(self._attempt.recipe):
            fresh = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
            if reason := schedule_mismatch(self._loaded.trainer["lr_schedulers"], fresh):
                raise CheckpointMismatch(f"{self._loaded.path} cannot be trained on for longer: {reason}")
        if self._loaded.rank is not None:
            trainer.callback_metrics.update(self._loaded.rank["metrics"])
        if self._loaded.borrowed:
            self._own_settings = training_state.OptimizerSettings(trainer)

    def _agree_on_the_start(self) -> None:
        step = float(self._saved_step)
        last, first = max_over_ranks([step, -step], self._world)
        if last != -first:
            raise RanksDisagree(
                f"one rank would go on from step {last:.0f}, another from step {-first:.0f}: they do not see the same "
                f"checkpoints in {self._writer.folder}. All ranks need the same storage"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Within an epoch, restore its data, its sums and the random state. Nothing has been drawn from them yet."""
        self._asked_to_leave = self._leave()  # the first question: now the training begins
        if self._own_settings is not None:
            self._own_settings.put_back(trainer)
        if self._loaded is None or not self._loaded.within_epoch:
            return
        rank, loader = self._loaded.rank, self._writer.loader
        if loader is not None:  # Lightning forgets this where a module asks for the number of steps beforehand
            loader.load_state_dict(rank["loader"] if rank else self._position_of_others())
        if rank is not None:
            training_state.restore_epoch_state(pl_module, rank["epoch"])
            training_state.restore_random_state(rank["random"])

    def _position_of_others(self) -> State:
        """Where this rank's loader goes on behind what other ranks read; it counts its part of what they left out."""
        saved: Mapping[str, int] = self._loaded.manifest.loader if self._loaded else {}
        position = {key: value for key, value in saved.items() if key in ("epoch", "batch")}
        if BAD_SAMPLES in saved:
            position[BAD_SAMPLES] = (saved[BAD_SAMPLES] + self._world.ranks - 1 - self._world.rank) // self._world.ranks
        return {**self._writer.loader.state_dict(), **position}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The first batch after a resume: from here on the epoch is like any other."""
        if self._loaded is not None:
            training_state.clear_restart_flag(trainer)
            self._loaded = None  # it is large

    # when to save

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note whether the batch ended with an optimizer step: gradients that still add up are not saved."""
        self._asked_to_leave = self._leave() or self._asked_to_leave
        training_state.merge_logged(trainer, self._waiting)
        self._stepped, self._step = trainer.global_step > self._step, trainer.global_step

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Ask here too: each question is also a sign of life. The trial leaves when validation is over."""
        self._asked_to_leave = self._leave() or self._asked_to_leave

    def between_batches(self) -> None:
        """The loader is asked for the next batch: save, or leave, if it is time."""
        trainer = self._trainer
        if trainer is None or not self._stepped:
            return
        training_state.merge_logged(trainer, self._waiting)
        self._stepped = False
        if self._is_time(trainer, epoch=None):
            self._save(trainer, between_epochs=False)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch begins, and all of the one before is done."""
        if self._loaded is not None and self._loaded.rank is not None:  # it was saved between epochs
            training_state.restore_random_state(self._loaded.rank["random"])
        self._waiting.clear()
        self._stepped = False
        if trainer.global_step > self._saved_step and self._is_time(trainer, epoch=trainer.current_epoch):
            self._save(trainer, between_epochs=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The end: what is tested, shown and extended later."""
        if self._keys.at_end and trainer.global_step > self._saved_step:
            self._save(trainer, between_epochs=True)

    def _is_time(self, trainer: Trainer, *, epoch: int | None) -> bool:
        """Whether to save now. The same on all ranks."""
        keys, step = self._keys, trainer.global_step
        due = time.monotonic() - self._saved_at >= keys.every_seconds if keys.every_seconds else False
        due, self._leave_agreed = self._agreed(trainer, due, self._asked_to_leave, now=epoch is not None)
        if keys.every_steps and step // keys.every_steps > self._saved_step // keys.every_steps:
            due = True
        if keys.every_epochs and epoch and epoch % keys.every_epochs == 0:
            due = True
        return due or self._leave_agreed

    def _agreed(self, trainer: Trainer, due: bool, leave: bool, *, now: bool) -> tuple[bool, bool]:
        """Whether one rank wants to save, and whether one has to leave; asked when all know that it is time to ask."""
        if self._world.ranks == 1:
            return due, leave
        if not now and trainer.global_step < self._ask_at:
            return False, False
        step_seconds = (time.monotonic() - self._begun) / max(1, trainer.global_step)
        steps = max(1.0, min(float(MOST_STEPS), AGREE_SECONDS / max(step_seconds, 1e-9)))
        due_any, leave_any, fewest = max_over_ranks([float(due), float(leave), -steps], self._world)
        self._ask_at = trainer.global_step + int(-fewest)
        return bool(due_any), bool(leave_any)

    def _save(self, trainer: Trainer, *, between_epochs: bool) -> None:
        step = trainer.global_step
        self._check()
        if self._writer.folder is not None:
            began = time.monotonic()
            saved = self._writer.write(trainer, self._waiting, between_epochs=between_epochs)
            self._saved_step, self._saved_at = step, time.monotonic()
            if saved is not None:
                self._notify(replace(saved, seconds=self._saved_at - began))
        if self._leave_agreed:
            raise Preempted(f"asked to leave at step {step}, which is saved")
