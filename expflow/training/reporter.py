"""Sends reports from Lightning's hooks: one per validated epoch, and none of a loss that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from expflow.errors import Diverged
from expflow.events import Report
from expflow.training.finite_metrics import finite
from expflow.training.isolation import hold_random_state

CHECK_EVERY = 32
"""Steps between two checks of the losses."""


class Reporter(Checkpoint):
    """Sends a :class:`Report` after each validated epoch, and stops the trainer where the answer says so.

    It is a ``Checkpoint`` to Lightning because those run last at the end of an epoch, when the module has logged all
    of it. The report of the last epoch is kept in ``last`` for the runner, which has more to add to it.

    Args:
        send: Called with each report; returns whether to go on.
        epochs: Length of the whole training.
        validate_every: Epochs between validations.
        decisive: Metrics that the trial is judged by or that its recipe watches.
    """

    def __init__(
        self, send: Callable[[Report], bool], *, epochs: int, validate_every: int, decisive: Collection[str] = ()
    ) -> None:
        self._send, self._epochs, self._every, self._decisive = send, epochs, validate_every, decisive
        self._losses: list[Tensor] = []
        self._copied: tuple[Tensor, list[int]] | None = None
        self._arrived: torch.cuda.Event | None = None
        self._steps: list[int] = []
        self._step = 0
        self.stopped = False
        self.logged: Callable[[], Mapping[str, float]] = dict
        """Gives the metrics since its last call that a user's code logged by ``self.logger`` itself."""
        self.last: Report | None = None
        self._validated = 0
        self._early = False
        self._restore_random_state: Callable[[], None] | None = None

    @property
    def validated_last(self) -> bool:
        """Whether the last epoch was validated."""
        return self.last is not None and self.last.metrics["progress/epoch"] == self._validated

    def state_dict(self) -> dict[str, Any]:
        """What has been validated, and the last report, which the runner has not sent yet."""
        return {"validated": self._validated, "last": asdict(self.last) if self.last else None, "early": self._early}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._validated, self._early = state_dict["validated"], state_dict["early"]
        self.last = Report(**state_dict["last"]) if state_dict["last"] else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A training that had ended early ends again at once."""
        trainer.should_stop = trainer.should_stop or self._early
        self._step = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember which epoch was validated, and let training go on as if it had not been."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._validated = trainer.current_epoch + 1
        if self._restore_random_state is not None:
            self._restore_random_state()
            self._restore_random_state = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the loss; check all remembered ones now and then, and at the end of the epoch."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        step = trainer.global_step
        stepped, self._step = step != self._step, step
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach())
            self._steps.append(self._step if stepped else self._step + 1)  # else it is accumulated for the next step
        if trainer.is_last_batch:
            self.check()
        elif len(self._losses) >= CHECK_EVERY:
            self._copy_losses()
        if trainer.is_last_batch:
            # a torch DataLoader draws a number when validation begins: how often one validates must change no weights
            self._restore_random_state = hold_random_state()

    def check(self) -> None:
        """Check all losses so far.

        Raises:
            Diverged: One is not finite; the message names its step.
        """
        self._copy_losses()
        self._check_copied()

    def _copy_losses(self) -> None:
        """Check the losses that were copied the last time, and begin to copy those since to the host.

        On a GPU nothing waits for the copy: it is checked ``CHECK_EVERY`` steps later.
        """
        self._check_copied()
        if self._losses:
            self._copied = torch.stack(self._losses).to("cpu", non_blocking=True), self._steps
            if self._losses[0].is_cuda:
                self._arrived = torch.cuda.Event()
                self._arrived.record(torch.cuda.current_stream())
            else:
                self._check_copied()
            self._losses, self._steps = [], []

    def _check_copied(self) -> None:
        if self._copied is None:
            return
        if self._arrived is not None:
            self._arrived.synchronize()
        (values, steps), self._copied, self._arrived = self._copied, None, None
        finite = values.isfinite().tolist()
        if not all(finite):
            first = finite.index(False)
            raise Diverged(f"the loss became {values[first].item()} at step {steps[first]}; a lower rate may help")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch, unless it is neither validated nor the last one."""
        epoch = trainer.current_epoch + 1
        ending = epoch >= self._epochs or trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        if not ending and epoch % self._every:
            return
        logged = trainer.callback_metrics
        numbers = _beside(self.logged(), logged) | logged_metrics(logged)
        measured = finite(numbers, trainer.global_step, self._decisive)
        metrics = {**measured.values, "progress/epoch": float(epoch)}
        report = Report(trainer.global_step, metrics, min(1.0, epoch / self._epochs), list(measured.missing))
        if ending:
            self.last, self._early = report, epoch < self._epochs
        elif not self._send(report):
            self.stopped = trainer.should_stop = True


def logged_metrics(logged: Mapping[str, Tensor]) -> dict[str, float]:
    """Logged metrics as numbers; where Lightning kept a step's value beside the epoch's mean, only the mean.

    Args:
        logged: Lightning's ``callback_metrics``.
    """
    return {name: _number(value) for name, value in logged.items() if not _has_epoch_mean(name, logged)}


def _beside(metrics: Mapping[str, float], logged: Mapping[str, Tensor]) -> dict[str, float]:
    """What was logged by ``self.logger`` alone; Lightning hands it what ``self.log`` was given as well."""
    return {name: value for name, value in metrics.items() if name not in logged and not _has_epoch_mean(name, logged)}


def _number(value: Tensor) -> float:
    """The shortest decimal that is this value in the tensor's own precision: 0.98, not 0.9800000190734863."""
    return float(str(value.detach().cpu().numpy()[()])) if value.dtype == torch.float32 else float(value)


def _has_epoch_mean(name: str, logged: Mapping[str, Tensor]) -> bool:
    base = name.removesuffix("_step").removesuffix("_epoch")
    return base != name and base in logged
