"""When a Lightning training is saved, and the way back.

Lightning collects the state and puts it back; what it writes to and reads from is ours (a ``CheckpointIO``). States are
taken where nothing is half done: between two batches, when the loader is asked for the next one, or between two epochs,
when the next one begins. Within an epoch that needs a loader that knows its position; a training on another loader is
saved between epochs alone.

All ranks come here at the same steps: rank 0 writes what is the same on all of them, each rank its random state and
what it has added up. Whether the time has come, or whether one of them has to leave, is agreed on about once a second.
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from expflow.config.identity import config_id
from expflow.config.schema import Recipe
from expflow.errors import CheckpointMismatch, ExpflowError, Preempted, RanksDisagree, StorageUnwritable
from expflow.ledger.lock import check_epoch
from expflow.training.checkpoints import state as training_state
from expflow.training.checkpoints.choice import FOLDER
from expflow.training.checkpoints.extension import stretched
from expflow.training.checkpoints.folder import Draft, Manifest, prune, sweep_up, verify
from expflow.training.checkpoints.loaders import Tapped, watched_loader
from expflow.training.checkpoints.reading import Loaded
from expflow.training.checkpoints.tensors import WEIGHTS, dump, plain, state_file
from expflow.training.contract import Attempt, Leave, OnNotice, Saved, World
from expflow.training.ranks import greatest, summed

AGREE_SECONDS = 1.0
"""About how often the ranks of a trial agree on whether to save or to leave."""
MOST_STEPS = 64
"""Most steps between two such agreements."""
BAD = "bad_samples"
"""Where a loader's state counts what a rank has left out in the epoch so far; a manifest counts all ranks'."""
NOT_NEEDED = ("hyper_parameters", "hparams_name", "hparams_type", "datamodule_hyper_parameters")
"""What Lightning would save of a module's constructor: the recipe has it, and it may hold any object."""

State = dict[str, Any]


class Files(CheckpointIO):
    """Where Lightning's own saving and loading end up: in the draft of the moment, and in what was read."""

    def __init__(self, loaded: Loaded | None) -> None:
        self._loaded = loaded
        self.write: Callable[[State], None] | None = None
        self.error: BaseException | None = None

    def save_checkpoint(self, checkpoint: State, path: Any, storage_options: Any = None) -> None:
        """Called on rank 0 alone, which must not raise here: the other ranks wait for it."""
        if self.write is None:
            raise TypeError("checkpoints are written by the trial's runner; Trainer.save_checkpoint has no place here")
        try:
            self.write(checkpoint)
        except (ExpflowError, OSError, RuntimeError) as error:
            self.error = error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> State:
        """What :func:`~expflow.training.checkpoints.reading.read` has read and checked."""
        if self._loaded is None:
            raise TypeError(f"nothing was read from {path}")
        return self._loaded.trainer

    def remove_checkpoint(self, path: Any) -> None:
        """Nothing: what is kept is not Lightning's to decide."""


class Checkpointer(Checkpoint):
    """Saves a trial's state by the keys under ``trainer.checkpoint``, and goes on from ``loaded``.

    ``check`` is called before saving and raises where the weights are not worth it. A ``Checkpoint`` to Lightning, so
    that its hooks run behind those of other callbacks.
    """

    def __init__(
        self,
        attempt: Attempt,
        world: World,
        *,
        loaded: Loaded | None,
        check: Callable[[], None],
        notify: OnNotice,
        leave: Leave,
    ) -> None:
        self._attempt, self._world, self._loaded = attempt, world, loaded
        self._check, self._notify, self._leave = check, notify, leave
        self._rules = attempt.recipe.trainer.checkpoint
        self._parent = attempt.folder / FOLDER if attempt.folder else None
        self._tag = f"-e{attempt.fence.epoch if attempt.fence else 0}-a{attempt.number}"
        self.files = Files(loaded)
        self.loader: Any = None
        """The training loader, where it knows its position."""
        self._waiting: dict[str, State] = dict(loaded.rank["epoch"]["logged"]) if loaded and loaded.rank else {}
        self._begun = self._saved_at = time.monotonic()
        self._spent = loaded.manifest.seconds if loaded else 0.0
        self._saved_step = loaded.manifest.step if loaded else 0
        self._step, self._stepped = self._saved_step, False
        self._ask_at = 0
        self._told_to_leave = self._leave_agreed = False
        self._trainer: Trainer | None = None
        self._own: training_state.Settings | None = None
        self._handler = signal.getsignal(signal.SIGTERM)

    def watch(self, loader: Any) -> Any:
        """``loader`` so that a training on it can be saved: between epochs, and within them if it has a position."""
        watched = watched_loader(loader, self.between_batches)
        self.loader = loader if isinstance(watched, Tapped) else None
        return watched

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all attempts."""
        return self._spent + time.monotonic() - self._begun

    # the way back

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a checkpoint that does not fit, and bring back the metrics of earlier epochs."""
        self._trainer = trainer
        if self._world.ranks > 1:
            training_state.leave_signals_to_us(trainer)
            self._agree_on_the_start()
        if self._loaded is None:
            if self._parent is not None and trainer.is_global_zero:
                sweep_up(self._parent, self._tag)
            return
        if self._loaded.manifest.budget != budget_of(self._attempt.recipe):
            fresh = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
            if reason := stretched(self._loaded.trainer["lr_schedulers"], fresh):
                raise CheckpointMismatch(f"{self._loaded.path} cannot be trained on for longer: {reason}")
        if self._loaded.rank is not None:
            trainer.callback_metrics.update(self._loaded.rank["metrics"])
        if self._loaded.borrowed:
            self._own = training_state.Settings(trainer)

    def _agree_on_the_start(self) -> None:
        step = float(self._saved_step)
        last, first = greatest([step, -step], self._world)
        if last != -first:
            raise RanksDisagree(
                f"one rank would go on from step {last:.0f}, another from step {-first:.0f}: they do not see the same "
                f"checkpoints in {self._parent}. All ranks need the same storage"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Within an epoch: its data, its sums and the random state come back. Nothing has been drawn from them yet."""
        if signal.getsignal(signal.SIGTERM) != self._handler and self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)  # Lightning's own ends the process with nothing saved
        if self._own is not None:
            self._own.put_back(trainer)
        if self._loaded is None or not self._loaded.within_epoch:
            return
        rank = self._loaded.rank
        if self.loader is not None:  # Lightning forgets this where a module asks for the number of steps beforehand
            self.loader.load_state_dict(rank["loader"] if rank else self._place_of_others())
        if rank is not None:
            training_state.restore_epoch_state(pl_module, rank["epoch"])
            training_state.restore_random_state(rank["random"])

    def _place_of_others(self) -> State:
        """Where this rank's loader goes on behind what other ranks read; it counts its part of what they left out."""
        said: Mapping[str, int] = self._loaded.manifest.loader if self._loaded else {}
        place = {key: value for key, value in said.items() if key in ("epoch", "batch")}
        if BAD in said:
            place[BAD] = (said[BAD] + self._world.ranks - 1 - self._world.rank) // self._world.ranks
        return {**self.loader.state_dict(), **place}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The first batch after a resume: from here on the epoch is like any other."""
        if self._loaded is not None:
            training_state.forget_the_restart(trainer)
            self._loaded = None  # it is large

    # saving

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note whether the batch ended with an optimizer step: gradients that still add up are not saved."""
        self._told_to_leave = self._leave() or self._told_to_leave
        training_state.merge_logged(trainer, self._waiting)
        self._stepped, self._step = trainer.global_step > self._step, trainer.global_step

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Ask here too, because whoever answers sees by it that the trial lives; it leaves when validation is over."""
        self._told_to_leave = self._leave() or self._told_to_leave

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
        if self._rules.at_end and trainer.global_step > self._saved_step:
            self._save(trainer, between_epochs=True)

    # when

    def _is_time(self, trainer: Trainer, *, epoch: int | None) -> bool:
        """Whether to save now. The same on all ranks."""
        rules, step = self._rules, trainer.global_step
        due = time.monotonic() - self._saved_at >= rules.every_seconds if rules.every_seconds else False
        due, self._leave_agreed = self._agreed(trainer, due, self._told_to_leave, now=epoch is not None)
        if rules.every_steps and step // rules.every_steps > self._saved_step // rules.every_steps:
            due = True
        if rules.every_epochs and epoch and epoch % rules.every_epochs == 0:
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
        due_any, leave_any, fewest = greatest([float(due), float(leave), -steps], self._world)
        self._ask_at = trainer.global_step + int(-fewest)
        return bool(due_any), bool(leave_any)

    # how

    def _save(self, trainer: Trainer, *, between_epochs: bool) -> None:
        step = trainer.global_step
        self._check()
        if self._parent is not None:
            saved = self._write(trainer, Draft(self._parent, step, self._tag), between_epochs)
            self._saved_step, self._saved_at = step, time.monotonic()
            if saved is not None:
                self._notify(saved)
        if self._leave_agreed:
            raise Preempted(f"asked to leave at step {step}, which is saved")

    def _write(self, trainer: Trainer, draft: Draft, between_epochs: bool) -> Saved | None:
        """All ranks write their part, rank 0 puts the checkpoint in its place. Raises on all ranks if one cannot."""
        rank = self._rank_state(trainer, between_epochs)
        main: State = {}
        place = _numbers(rank["loader"])
        if BAD in place:
            place[BAD] = int(summed([float(place[BAD])], self._world)[0])

        def write_shared(checkpoint: State) -> None:
            main.update(self._write_shared(draft, checkpoint, rank, place, between_epochs))

        self.files.write, self.files.error = write_shared, None
        error: BaseException | None = None
        try:
            if self._world.rank:
                draft.write(state_file(self._world.rank), lambda file: dump({"rank": rank}, file))
        except (ExpflowError, OSError, RuntimeError) as own:
            error = own
            (draft.folder / state_file(self._world.rank)).unlink(missing_ok=True)
        trainer.save_checkpoint(draft.folder)  # its last act is a barrier: now all files are there
        self.files.write, error = None, error or self.files.error
        saved = None
        if self._world.rank == 0 and error is None:
            try:
                saved = self._commit(draft, trainer, main)
            except (ExpflowError, OSError) as own:
                error = own
        whole = trainer.strategy.reduce_boolean_decision(error is None, all=True)
        if error is not None:
            draft.discard()
            raise error
        if not whole:
            self._fence()
            raise StorageUnwritable(f"another rank could not write its part of {draft.final}")
        return saved

    def _rank_state(self, trainer: Trainer, between_epochs: bool) -> State:
        empty: State = {"metrics": {}, "logged": {}, "task": {}}
        task = trainer.lightning_module
        state = {
            "random": training_state.random_state(),
            "epoch": empty if between_epochs else training_state.epoch_state(task, trainer, self._waiting),
            "metrics": {name: value.detach() for name, value in trainer.callback_metrics.items()},
            "loader": dict(self.loader.state_dict()) if self.loader is not None else {},
        }
        checked: State = plain(state, "the state of this rank", self._rules.allow)
        return checked

    def _write_shared(
        self, draft: Draft, checkpoint: State, rank: State, place: Mapping[str, int], between_epochs: bool
    ) -> State:
        """Rank 0's files. Returns the position that the manifest names."""
        kept = {key: value for key, value in checkpoint.items() if key not in (*NOT_NEEDED, "state_dict")}
        if between_epochs:
            training_state.settle_between_epochs(kept["loops"])
        weights = plain(checkpoint["state_dict"], "state_dict", self._rules.allow)
        shared = plain(kept, "checkpoint", self._rules.allow)
        draft.write(WEIGHTS, lambda file: dump(weights, file))
        draft.write(state_file(0), lambda file: dump({"trainer": shared, "rank": rank}, file))
        epoch, batch = training_state.position(kept["loops"])
        return {"epoch": epoch, "batch": batch, "loader": dict(place)}

    def _commit(self, draft: Draft, trainer: Trainer, place: Mapping[str, Any]) -> Saved:
        attempt, fence = self._attempt, self._attempt.fence
        manifest = Manifest(
            step=trainer.global_step,
            config=config_id(attempt.recipe),
            seed=attempt.seed,
            forks=attempt.forks,
            ranks=self._world.ranks,
            seconds=self.seconds,
            budget=budget_of(attempt.recipe),
            lock_epoch=fence.epoch if fence else None,
            versions=_versions(),
            **place,
        )
        others = tuple(state_file(rank) for rank in range(1, self._world.ranks))
        draft.commit(manifest, others, self._fence)
        written = verify(draft.final)
        prune(draft.final.parent, self._rules.keep, draft.final)
        return Saved(written.step, draft.final, written.sha256, written.size)

    def _fence(self) -> None:
        """Raise StaleDriver where a newer driver has taken over."""
        if self._attempt.fence is not None:
            check_epoch(self._attempt.fence.folder, self._attempt.fence.epoch)


def budget_of(recipe: Recipe) -> dict[str, Any]:
    """How long a recipe trains."""
    return {"epochs": recipe.trainer.epochs}


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("expflow", "torch", "pytorch-lightning")}


def _numbers(loader: Mapping[str, Any]) -> dict[str, int]:
    return {key: value for key, value in loader.items() if isinstance(value, int)}
