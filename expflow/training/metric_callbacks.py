"""Callbacks that follow the metrics of each validation: early stopping, and the rate that falls on a plateau."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from expflow.config.schema import EarlyStopping
from expflow.errors import MetricMissing
from expflow.metrics import metric_mode, nearest_first
from expflow.optim.patience import Patience


class MetricCallback(Checkpoint):
    """Calls :meth:`observe` at the end of each validated epoch, when everything is logged.

    A ``Checkpoint`` to Lightning, because those come last; it has to stand before the reporter.
    """

    def __init__(self) -> None:
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """There are new metrics."""
        self._validated = trainer.state.fn == TrainerFn.FITTING

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand them on, when the epoch has logged everything."""
        if self._validated:
            self._validated = False
            self.observe(trainer)

    def observe(self, trainer: Trainer) -> None:
        """Called once for each validated epoch.

        Args:
            trainer: Holds the metrics in ``callback_metrics``.
        """
        raise NotImplementedError


def metric_value(trainer: Trainer, metric: str, key: str) -> float:
    """The newest value of a metric, the same on all ranks.

    Args:
        trainer: Holds the metrics in ``callback_metrics``.
        metric: Its name.
        key: The key of the recipe that names it, for the message.

    Raises:
        MetricMissing: Nothing logs the metric.
    """
    if metric not in trainer.callback_metrics:
        known = ", ".join(nearest_first(metric, trainer.callback_metrics)) or "none"
        raise MetricMissing(f"{key}: no trial reports {metric}; the first validation reported {known}")
    return trainer.callback_metrics[metric].item()


class EarlyStopper(MetricCallback):
    """Ends the training when a metric has stood still for longer than there is patience. ``reason`` then says so.

    Args:
        spec: The keys under ``trainer.early_stopping``.
        epochs: Length of the whole training.
    """

    def __init__(self, spec: EarlyStopping, epochs: int) -> None:
        super().__init__()
        self._metric, self._epochs = spec.metric, epochs
        self._patience = Patience(metric_mode(spec.metric, spec.mode), spec.patience, spec.min_delta)
        self._best_epoch = 0
        self.reason = ""

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state."""
        return "early_stopping"

    def observe(self, trainer: Trainer) -> None:
        """Count this epoch; the ranks agree whether it is the last one."""
        epoch, patience = trainer.current_epoch + 1, self._patience
        exhausted = patience.exhausted(metric_value(trainer, self._metric, "trainer.early_stopping.metric"))
        if patience.bad == 0:
            self._best_epoch = epoch
        # equal on all ranks as long as the metric is; a task that logs another value on each must not hang the others
        if trainer.strategy.reduce_boolean_decision(exhausted, all=False) and epoch < self._epochs:
            self.reason = (
                f"stopped early after epoch {epoch} of {self._epochs}: {self._metric} was best, {patience.best:.4g},"
                f" in epoch {self._best_epoch}"
            )
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """The best value, when it was, and the validations since."""
        patience = self._patience
        return {"best": patience.best, "bad": patience.bad, "epoch": self._best_epoch, "reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._patience.best, self._patience.bad = state_dict["best"], state_dict["bad"]
        self._best_epoch, self.reason = state_dict["epoch"], state_dict["reason"]


class PlateauUpdater(MetricCallback):
    """Gives the schedules that watch a metric its newest value (``expflow.optim.schedules.PlateauLR``)."""

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none, the schedules have their own."""
        return "plateaus"

    def observe(self, trainer: Trainer) -> None:
        """Hand the value to each of them."""
        for config in trainer.lr_scheduler_configs:
            schedule: Any = config.scheduler
            if hasattr(schedule, "observe"):
                schedule.observe(metric_value(trainer, schedule.metric, "schedule.metric"))
