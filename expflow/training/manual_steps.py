"""Steps of a module that moves its optimizers itself: one update of all its networks is one step.

Lightning counts each optimizer's step, 16 after 8 batches of a GAN, and everything that counts time by ``global_step``
(``max_steps``, a ModelCheckpoint, what the module logs by ``self.global_step``, reports, checkpoints, averages) follows
it. So the count itself is corrected, in Lightning's own progress, which its checkpoints hold.

``manual_optimization.optim_step_progress`` is not documented by Lightning; it is used in this file alone, and
``tests/training/test_manual_steps.py`` notices when it changes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from expflow.config.schema import Recipe
from expflow.config.spec import UserComponent
from expflow.errors import UserError


class StepCounter(Callback):
    """Counts a step at the end of the batch in which the last of the optimizers in use has moved since the last step.

    An optimizer is in use from its first move on, so one that begins later is not waited for until then. One that did
    not move in a whole epoch is not waited for in the next, and an epoch in which any moved counts as one step at
    least: whatever a module does, its steps go on.

    It has to stand before all callbacks that ask for the step.

    Args:
        all_from_start: Whether all optimizers are waited for from the beginning.
    """

    def __init__(self, *, all_from_start: bool = False) -> None:
        self._all = all_from_start
        self._in_use: set[int] = set()
        self._moved: set[int] = set()
        self._moved_in_epoch: set[int] = set()
        self._counted = 0
        self._handles: list[Any] = []
        self._progress: Any = None

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state."""
        return "manual_steps"

    def state_dict(self) -> dict[str, Any]:
        """Which optimizers have moved: since the last step, in this epoch, and lately; and the epoch's steps."""
        return {
            "in_use": sorted(self._in_use),
            "moved": sorted(self._moved),
            "moved_in_epoch": sorted(self._moved_in_epoch),
            "counted": self._counted,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._in_use, self._moved = set(state_dict["in_use"]), set(state_dict["moved"])
        self._moved_in_epoch, self._counted = set(state_dict["moved_in_epoch"]), state_dict["counted"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the counting over from Lightning."""
        self._progress = _optimizer_progress(trainer)
        self._progress.increment_ready = self._progress.increment_completed = _nothing
        self._handles = [
            optimizer.register_step_post_hook(partial(self._note, index))
            for index, optimizer in enumerate(trainer.optimizers)
        ]
        if self._all and not self._in_use:
            self._in_use = set(range(len(trainer.optimizers)))

    def _note(self, index: int, *hook_arguments: Any) -> None:
        self._moved.add(index)
        self._moved_in_epoch.add(index)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count a step where all optimizers in use have moved."""
        self._in_use |= self._moved
        if self._moved and self._in_use <= self._moved:
            self._count()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget optimizers that no longer move."""
        if self._moved_in_epoch and not self._counted:
            self._count()
        if self._moved_in_epoch:
            self._in_use = set(self._moved_in_epoch)
        self._moved_in_epoch, self._counted = set(), 0

    def _count(self) -> None:
        self._moved.clear()
        self._counted += 1
        self._progress.increment_by(1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The counting is Lightning's again."""
        self._leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As at the end."""
        self._leave()

    def _leave(self) -> None:
        for handle in self._handles:
            handle.remove()
        if self._handles:
            del self._progress.increment_ready, self._progress.increment_completed
        self._handles = []


def _optimizer_progress(trainer: Trainer) -> Any:
    """Lightning's count of the steps of optimizers that a module moves itself."""
    return trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress


def _nothing() -> None:
    pass


def step_counting_callbacks(recipe: Recipe, task: LightningModule) -> list[Callback]:
    """What counts the steps of a module that moves its optimizers itself; none where Lightning does.

    Args:
        recipe: What is trained.
        task: The module.

    Raises:
        UserError: The recipe sets what Lightning does only where it moves the optimizer.
    """
    if task.automatic_optimization:
        return []
    trainer, name = recipe.trainer, type(task).__name__
    moves = f"{name} moves its optimizers itself (automatic_optimization is False)"
    if trainer.accumulate > 1:
        raise UserError(
            f"trainer.accumulate: {trainer.accumulate} adds up nothing here, since {moves}; remove it, and raise the"
            " data's batch_size"
        )
    for key in ("clip_norm", "clip_value"):
        if getattr(trainer, key) is not None:
            raise UserError(
                f"trainer.{key} clips nothing here, since {moves}; remove it, and call self.clip_gradients in"
                " training_step"
            )
    return [StepCounter(all_from_start=not isinstance(recipe.task, UserComponent))]
