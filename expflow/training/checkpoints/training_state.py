"""A training's state besides what Lightning saves: random generators, and the metrics of an unfinished epoch.

Beside ``rank_metrics.py`` the only file that uses Lightning's private names. Lightning saves neither what ``self.log``
has added up within an epoch nor the metrics of earlier epochs, and it takes the first epoch after a resume for one
whose metrics are unknown. Then a training that was cut within an epoch would report other numbers than one that was
not.
``tests/training/test_checkpoint_resume.py`` notices when one of these names changes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

State = dict[str, Any]


def random_state() -> State:
    """The state of every random generator of this process, as tensors and plain data."""
    kind, keys, place, has_gauss, gauss = tuple(np.random.get_state())
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    version, words, gauss_next = random.getstate()
    return {
        "python": [version, torch.tensor(words), gauss_next],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, np.int64)), place, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restore the state of every random generator.

    Args:
        state: What :func:`random_state` returned.
    """
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss_next))
    kind, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])


class OptimizerSettings:
    """A recipe's settings of its optimizers and schedules, kept while another recipe's state is loaded into them.

    The rate keeps its place in the schedule: the same factor is applied to the new base rate.

    Args:
        trainer: Holds the optimizers, as the recipe has built them.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._groups = [
            [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]

    def put_back(self, trainer: Trainer) -> None:
        """Set optimizers and schedules to these settings.

        Args:
            trainer: Holds the optimizers and schedules, into which the other recipe's state was loaded.
        """
        for optimizer, groups in zip(trainer.optimizers, self._groups, strict=True):
            for group, own in zip(optimizer.param_groups, groups, strict=True):
                base, loaded = _base_rate(own), _base_rate(group)
                rate = group["lr"] * (base / loaded) if loaded else own["lr"]
                group.update(own | {"lr": rate})
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            rates = [group["lr"] for group in scheduler.optimizer.param_groups]
            if hasattr(scheduler, "base_lrs"):
                scheduler.base_lrs = [_base_rate(group) for group in scheduler.optimizer.param_groups]
            scheduler._last_lr = rates


def _base_rate(group: Mapping[str, Any]) -> float:
    return float(group.get("initial_lr", group["lr"]))


def settle_between_epochs(loops: State) -> None:
    """Change Lightning's saved progress to that after the last epoch, before the next one has begun.

    The state is taken in the hook at an epoch's start, when everything of the epoch before is done; saved earlier, a
    plateau schedule would miss its step.

    Args:
        loops: The entry ``loops`` of Lightning's checkpoint, which is changed in place.
    """
    fit = loops["fit_loop"]
    for counts in fit["epoch_progress"].values():
        counts["ready"] = counts["started"] = counts["completed"] = counts["processed"]
    batches = fit["epoch_loop.batch_progress"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False


def position(loops: Mapping[str, Any]) -> tuple[int, int]:
    """Whole epochs, and batches of the next one, that the saved progress counts.

    Args:
        loops: The entry ``loops`` of Lightning's checkpoint.
    """
    fit = loops["fit_loop"]
    return fit["epoch_progress"]["current"]["processed"], fit["epoch_loop.batch_progress"]["current"]["completed"]


def clear_restart_flag(trainer: Trainer) -> None:
    """Have Lightning treat the rest of a resumed epoch like any other: its end moves plateau schedules too.

    Args:
        trainer: The Trainer within its fit.
    """
    trainer.fit_loop._restarting = False


def disable_sigterm_broadcast(trainer: Trainer) -> None:
    """Stop ranks from asking each other before each step whether one of them got SIGTERM, which waits for the device.

    Whether to leave is agreed on by :class:`~expflow.training.checkpoints.checkpointer.Checkpointer`, once a second.

    Args:
        trainer: The Trainer before its fit.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    pass


def epoch_state(task: LightningModule, trainer: Trainer, waiting: Mapping[str, State]) -> State:
    """The sums of the epoch so far, on this rank: those of torchmetrics, of ``self.log``, and of the task itself.

    A task that sums by itself returns its sums from ``epoch_state()`` and restores them in ``load_epoch_state(state)``.

    Args:
        task: The module.
        trainer: The Trainer within its fit.
        waiting: Sums of ``self.log`` that an earlier resume has not restored yet.
    """
    own: Callable[[], State] | None = getattr(task, "epoch_state", None)
    logged = {key: _logged(item) for key, item in _results(trainer) if item.is_tensor and not item.has_reset}
    return {
        "metrics": {name: _metric(metric) for name, metric in _metrics(task)},
        "logged": {**waiting, **logged},
        "task": own() if own is not None else {},
    }


def restore_epoch_state(task: LightningModule, state: Mapping[str, Any]) -> None:
    """Restore the sums of torchmetrics and of the task.

    Args:
        task: The module.
        state: What :func:`epoch_state` returned; its ``logged`` is for :func:`merge_logged`.
    """
    metrics = dict(_metrics(task))
    for name, saved in state["metrics"].items():
        if name in metrics:
            _restore_metric(metrics[name], saved)
    if state["task"]:
        task.load_epoch_state(state["task"])  # type: ignore[operator]  # the task that gave it has the way back


def merge_logged(trainer: Trainer, waiting: dict[str, State]) -> None:
    """Add the sums that ``self.log`` had before the interruption to those it has now, as soon as it logs them again.

    Lightning creates its sums when something is logged first, so nothing can be put back before that. The sum of a
    first value and the saved sum is bit for bit the sum that would be there without the interruption.

    Args:
        trainer: The Trainer within its fit.
        waiting: The saved sums by their keys; those that were added are removed.
    """
    for key, item in _results(trainer) if waiting else ():
        saved = None if item.has_reset else waiting.pop(key, None)
        if saved is None:
            continue
        value = saved["value"].to(item.value.device)
        if item.meta.is_max_reduction or item.meta.is_min_reduction:
            item.value = item.meta.reduce_fx(item.value, value)
        else:
            item.value = value + item.value
        if item.meta.is_mean_reduction:
            item.cumulated_batch_size = saved["batch_size"].to(value.device) + item.cumulated_batch_size


def _results(trainer: Trainer) -> list[tuple[str, Any]]:
    return [(key, item) for key, item in trainer.fit_loop.epoch_loop._results.items() if item.meta.on_epoch]


def _logged(item: Any) -> State:
    state = {"value": item.value.detach().clone()}
    if item.meta.is_mean_reduction:
        state["batch_size"] = item.cumulated_batch_size.detach().clone()
    return state


def _metrics(task: LightningModule) -> Iterator[tuple[str, Metric]]:
    return ((name, module) for name, module in task.named_modules() if isinstance(module, Metric))


def _metric(metric: Metric) -> State:
    return {
        "updates": metric.update_count,
        "state": {name: _copied(state) for name, state in metric.metric_state.items()},
    }


def _copied(state: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return state.detach().clone() if isinstance(state, Tensor) else [part.detach().clone() for part in state]


def _restore_metric(metric: Metric, saved: Mapping[str, Any]) -> None:
    for name, value in saved["state"].items():
        moved = value.to(metric.device) if isinstance(value, Tensor) else [part.to(metric.device) for part in value]
        setattr(metric, name, moved)
    metric._update_count = saved["updates"]
    metric._computed = None
