"""Metrics that a user's module logs on several ranks, as one rank would have measured them.

Lightning keeps each rank's own value of ``self.log(...)`` without ``sync_dist=True``: the report would be that of rank
0's samples, and a schedule that watches a metric would change the rate on one rank and not on another. Here the sums
behind the values are added up over the ranks at the end of each validation and each epoch. Which rank has logged what
is exchanged first, so a metric that one rank alone logs makes no other wait. ``sync_dist=True`` changes nothing then:
with it Lightning would wait for all ranks in each step, and take a rounded number of samples for each rank's.

It uses private names of Lightning's, as ``checkpoints/training_state.py`` and ``quick_lightning.py`` do;
``tests/training/test_shared_data.py`` notices when one of these here changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, Checkpoint
from torchmetrics import Metric

from expflow.config.schema import Recipe
from expflow.config.spec import UserComponent
from expflow.training.contract import World
from expflow.training.ranks import gather_objects
from expflow.training.trial_data import TrialData

Operation = Literal["mean", "sum", "max", "min"]


@dataclass(frozen=True)
class LoggedValue:
    """What one rank has logged under one name, over an epoch.

    Attributes:
        names: How the metric is called in ``callback_metrics``.
        operation: How values become one.
        value: The value, or for a mean the sum of values times weights.
        weight: For a mean, the sum of the weights.
    """

    names: tuple[str, ...]
    operation: Operation
    value: float
    weight: float = 1.0

    @property
    def result(self) -> float:
        """The metric over what was added up."""
        return self.value / self.weight if self.operation == "mean" and self.weight else self.value


def joined(values: list[LoggedValue]) -> float:
    """One metric over all ranks that have logged it.

    Args:
        values: Theirs.
    """
    operation = values[0].operation
    if operation in ("max", "min"):
        return (max if operation == "max" else min)(value.value for value in values)
    total = sum(value.value for value in values)
    return LoggedValue((), operation, total, sum(value.weight for value in values)).result


class RankMetrics(Callback):
    """Joins what the ranks have logged; it has to be the first callback, so that all others see the joined values.

    Args:
        world: This rank's place among the trial's ranks.
        data: The trial's data, which say whether every rank validates all samples.
    """

    def __init__(self, world: World, data: TrialData) -> None:
        self._world, self._data = world, data
        self._alone: list[Metric] = []

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "rank_metrics"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have ``self.log`` keep each rank's own values."""
        log: Callable[..., None] = pl_module.log

        @functools.wraps(log)
        def log_on_this_rank(*arguments: Any, **named: Any) -> None:
            log(*arguments, **(named | {"sync_dist": False} if "sync_dist" in named else named))

        pl_module.log = log_on_this_rank  # type: ignore[method-assign]
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not annotate it
        for callback in callbacks:  # which were given the module's own already
            callback.log = log_on_this_rank

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The module logs as before."""
        vars(pl_module).pop("log", None)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where every rank validates all samples, torchmetrics must not add up over the ranks."""
        if self._data.validates_whole:
            metrics = (module for module in pl_module.modules() if isinstance(module, Metric))
            self._alone = [metric for metric in metrics if metric.sync_on_compute]
            for metric in self._alone:
                metric.sync_on_compute = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the metrics of the validation."""
        self.join(trainer, whole=self._data.validates_whole)
        for metric in self._alone:
            metric.sync_on_compute = True
        self._alone = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the metrics of the epoch, but for those that are logged in this hook."""
        self.join(trainer, whole=False)

    def join(self, trainer: Trainer, *, whole: bool) -> None:
        """Put the joined values in the place of this rank's own. All ranks have to call it.

        Args:
            trainer: In the hook at the end of a validation or an epoch.
            whole: Whether every rank has seen all samples; then the values are rank 0's.
        """
        items = dict(_tensors(trainer))
        own = {key: logged for key, item in items.items() if (logged := _logged_value(trainer, item))}
        ranks: list[dict[str, LoggedValue]] = gather_objects(own, self._world)
        for key in dict.fromkeys(key for rank in ranks for key in rank):
            values = [rank[key] for rank in ranks if key in rank]
            result = torch.tensor(values[0].result if whole else joined(values))
            item = items.get(key)
            if item is not None:
                result = result.to(item.value)
                if item.meta.on_epoch:
                    item._computed = result
            trainer.callback_metrics.update(dict.fromkeys(values[0].names, result))


class LateRankMetrics(Checkpoint):
    """Joins what was logged in ``on_train_epoch_end``. A ``Checkpoint``, because those run behind that hook.

    Args:
        metrics: Has joined what was logged before.
    """

    def __init__(self, metrics: RankMetrics) -> None:
        self._metrics = metrics

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "late_rank_metrics"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join once more: sums that have been joined give the same again."""
        self._metrics.join(trainer, whole=False)


def rank_metric_callbacks(recipe: Recipe, data: TrialData, world: World) -> list[Callback]:
    """The callbacks that join what a user's code logs; none on one rank, and none where all code is expflow's.

    Args:
        recipe: What is trained.
        data: Its data.
        world: This rank's place among the trial's ranks.
    """
    users = isinstance(recipe.task, UserComponent) or recipe.trainer.callbacks
    if world.ranks == 1 or not users:
        return []
    metrics = RankMetrics(world, data)
    return [metrics, LateRankMetrics(metrics)]


def _tensors(trainer: Trainer) -> list[tuple[str, Any]]:
    """What ``self.log`` was given as numbers, in the loop that runs; torchmetrics join by themselves."""
    results: Any = trainer._results or {}
    return [(key, item) for key, item in results.items() if item.is_tensor and not item.has_reset]


def _logged_value(trainer: Trainer, item: Any) -> LoggedValue | None:
    """What this rank has logged; None for what is rank 0's alone."""
    meta, results = item.meta, trainer._results
    if meta.sync.rank_zero_only or results is None:
        return None
    names = tuple(dict.fromkeys(results._forked_name(item, on_step=False)))
    if not meta.on_epoch:  # a step's value: the mean over the ranks is that of the whole batch
        kept = results.training and item._forward_cache is not None
        return LoggedValue(names, "mean", float(item._forward_cache)) if kept else None
    if meta.is_mean_reduction:
        return LoggedValue(names, "mean", float(item.value), float(item.cumulated_batch_size))
    return LoggedValue(names, meta.reduce_fx.__name__, float(item.value))
