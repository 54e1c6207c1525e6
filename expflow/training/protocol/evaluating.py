"""A finished trial's weights on a split: alone, and combined with those of its siblings.

Everything is evaluated anew from checkpoints. The kept predictions would not do: they hold five classes of a sample,
an ensemble averages the probabilities of all, and a soup has weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from expflow.config.schema import Recipe
from expflow.data.dataspec import DataSpec
from expflow.errors import CheckpointMismatch, UserError
from expflow.tasks import build_task
from expflow.training.arguments import computing, trainer_arguments
from expflow.training.averaging import averaged
from expflow.training.checkpoints.tensors import WEIGHTS, difference, load, state_file
from expflow.training.contract import Attempt, World
from expflow.training.feed import open_feed, split_of
from expflow.training.isolation import isolated, seed_everything
from expflow.training.protocol.collecting import Collecting
from expflow.training.protocol.predictions import FIRST, Predictions
from expflow.training.protocol.restating import Restating, keeps_statistics
from expflow.training.reporter import finite_metrics
from expflow.training.weights import digest

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Measured:
    """What one network said of a split. ``predictions`` and ``probabilities`` (n, classes) are None where its task
    gives no scores; the latter also where nobody asked for them."""

    metrics: Mapping[str, float]
    predictions: Predictions | None = None
    probabilities: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Held:
    """Weights of a finished trial as they lie in a checkpoint. ``digest`` is that of the trained ones.

    ``weights`` are those that its ``val/*`` was measured on: the mean ones where the recipe keeps an exponential mean.
    """

    weights: Weights
    digest: str


class Bench:
    """One recipe's network and data, on which several sets of weights are measured. Use :func:`bench`."""

    def __init__(self, attempt: Attempt, world: World) -> None:
        self._attempt, self._world = attempt, world
        seed_everything(attempt.seed)
        self._feed = open_feed(attempt, world)
        self.task: LightningModule = build_task(attempt.recipe, self._feed.spec)

    @property
    def data_spec(self) -> DataSpec:
        """What the network knows of the data."""
        return self._feed.spec

    def batches(self, split: str) -> Any:
        """The batches of ``split`` in a fixed order. Raises UserError where there is no such split."""
        return split_of(self._attempt, self._world, self._feed, split)

    def held(self, checkpoint: Path) -> Held:
        """The weights in ``checkpoint``, a folder that has been verified.

        Raises CheckpointMismatch, naming layers and both shapes, where it is of another architecture.
        """
        allow = self._attempt.recipe.trainer.checkpoint.allow
        weights: Weights = load(checkpoint / WEIGHTS, allow)
        self._put(weights, str(checkpoint))
        trained = digest(self.task)
        if self._attempt.recipe.trainer.ema is not None:
            weights = weights | averaged(load(checkpoint / state_file(0), allow)["trainer"].get("callbacks", {}))
        return Held(weights, trained)

    def measure(self, weights: Weights, split: str, *, rows: bool = False) -> Measured:
        """What the network with ``weights`` says of ``split``; with ``rows`` all its probabilities are kept.

        Raises UserError where the data have no such split or the task cannot be evaluated.
        """
        self._put(weights, "these weights")
        collecting = Collecting(rows=rows)
        trainer = self._trainer(collecting)
        batches = self.batches(split)
        own = split == "test" and type(self.task).test_step is not LightningModule.test_step
        if not own and type(self.task).validation_step is LightningModule.validation_step:
            raise UserError("the task has neither a test_step nor a validation_step: there is nothing to measure")
        with computing(self._attempt.recipe, self.task):
            run = trainer.test if own else trainer.validate
            run(self.task, batches, verbose=False)
        found = collecting.predictions(split, self._world)
        metrics = _named(finite_metrics(trainer.callback_metrics, trainer.global_step), split)
        return Measured(metrics, found, collecting.rows() if rows and found is not None else None)

    def restated(self, weights: Weights) -> Weights:
        """``weights`` with the running statistics of its batch norms taken anew on training batches.

        Those of an average of weights are of no network that was ever trained (Izmailov et al. 2018, section 3.1).
        Weights without batch norms come back as they are.
        """
        self._put(weights, "these weights")
        if not keeps_statistics(self.task):
            return weights
        seed_everything(self._attempt.seed)
        batches = self.batches("train")
        restating = Restating()
        trainer = self._trainer(restating, limit_val_batches=restating.batches)
        with computing(self._attempt.recipe, self.task):
            trainer.validate(self.task, batches, verbose=False)
        return {name: value.detach().cpu().clone() for name, value in self.task.state_dict().items()}

    def _put(self, weights: Weights, what: str) -> None:
        if different := difference(weights, self.task.state_dict()):
            raise CheckpointMismatch(f"{what} fit another architecture:\n{different}")
        self.task.load_state_dict(weights)

    def _trainer(self, callback: Any, **limits: Any) -> Trainer:
        arguments = trainer_arguments(self._attempt.recipe, self._world)
        return Trainer(
            accelerator="gpu" if self._world.gpus else "cpu",
            devices=1,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **arguments,
            **limits,
        )


@contextmanager
def bench(recipe: Recipe, seed: int, data_root: Path | None, world: World) -> Iterator[Bench]:
    """A bench for ``recipe``; the process is as it was when it is left. Raises UserError where it cannot be built."""
    with isolated(threads=world.threads, deterministic=not world.gpus):
        yield Bench(Attempt(recipe, seed, data_root), world)


def _named(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """Metrics of a validation under the name of the split that they were measured on."""
    return {
        split + name.removeprefix("val") if name.startswith("val/") else name: each for name, each in metrics.items()
    }


def ensemble(members: Sequence[Measured]) -> Measured:
    """The mean of the members' probabilities on one split, image by image.

    ``loss`` is the mean of -ln of the probability of the label: the cross entropy, whatever the members were trained
    on. Raises UserError where a member has no probabilities, or they saw other images.
    """
    first = members[0].predictions
    rows = [each.probabilities for each in members]
    if first is None or any(each is None for each in rows):
        raise UserError("an ensemble averages probabilities, and this task gives no scores for its samples")
    for each in members:
        there = each.predictions
        if there is None or there.classes != first.classes or not np.array_equal(there.ids, first.ids):
            raise UserError("an ensemble's members must be evaluated on the same images and classes")
    mean: NDArray[np.float64] = np.mean([each for each in rows if each is not None], axis=0)
    predictions = _from_probabilities(first, mean)
    return Measured(metrics_of(predictions), predictions, mean)


def _from_probabilities(like: Predictions, probabilities: NDArray[np.float64]) -> Predictions:
    """Predictions on the samples of ``like``, with logarithms of probabilities for scores."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, : min(FIRST, like.classes)]
    return Predictions(
        like.split,
        like.classes,
        like.ids,
        like.labels,
        top.astype(np.int64),
        np.take_along_axis(logs, top, 1).astype(np.float32),
        np.zeros(len(like), np.float32),
        -np.take_along_axis(logs, like.labels[:, None], 1)[:, 0].astype(np.float32),
    )


def metrics_of(predictions: Predictions) -> dict[str, float]:
    """``loss``, ``top1`` and, with more than five classes, ``top5`` of predictions, under their split's name."""
    found = {"loss": float(predictions.losses.mean(dtype=np.float64)), "top1": float(predictions.hits.mean())}
    if predictions.classes > FIRST:
        found["top5"] = float(predictions.hits_among(FIRST).mean())
    return {f"{predictions.split}/{name}": value for name, value in found.items()}


def mean_weights(all_weights: Sequence[Weights]) -> Weights:
    """The mean of several networks' weights; what is no floating-point number (counters) is the first one's.

    Raises CheckpointMismatch where they are of different architectures.
    """
    first = all_weights[0]
    for each in all_weights[1:]:
        if different := difference(each, first):
            raise CheckpointMismatch(f"weights of different architectures have no mean:\n{different}")
    return {
        name: torch.stack([each[name].double() for each in all_weights]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


@dataclass(frozen=True)
class Soup:
    """An average of the weights of some of the trials, and what it gave on val (None where there is no val)."""

    weights: Weights
    members: tuple[str, ...]
    val: Measured | None


def uniform_soup(on: Bench, trials: Mapping[str, Weights], *, val: bool = True) -> Soup:
    """The mean of all trials' weights (Wortsman et al., Model soups, 2022, section 2)."""
    weights = on.restated(mean_weights(list(trials.values())))
    return Soup(weights, tuple(trials), on.measure(weights, "val", rows=True) if val else None)


def greedy_soup(on: Bench, trials: Mapping[str, Weights], metric: str, *, better: str) -> Soup:
    """A mean to which each trial's weights are added, the best on val first, where val gets no worse by it.

    Wortsman et al., Model soups, 2022, section 2, recipe 1. ``metric`` is measured on val, and ``better`` is ``max`` or
    ``min``. Raises UserError where the task does not give ``metric``.
    """
    sign = 1.0 if better == "max" else -1.0

    def score(measured: Measured) -> float:
        if metric not in measured.metrics:
            known = ", ".join(sorted(measured.metrics)) or "nothing"
            raise UserError(f"a greedy soup is chosen by {metric}, and the task measures {known}")
        return sign * measured.metrics[metric]

    alone = {name: on.measure(weights, "val", rows=True) for name, weights in trials.items()}
    order = sorted(trials, key=lambda name: -score(alone[name]))
    chosen = [order[0]]
    soup = Soup(trials[order[0]], (order[0],), alone[order[0]])
    best = score(alone[order[0]])
    for name in order[1:]:
        weights = on.restated(mean_weights([trials[each] for each in (*chosen, name)]))
        measured = on.measure(weights, "val", rows=True)
        if score(measured) >= best:
            chosen.append(name)
            best, soup = score(measured), Soup(weights, tuple(chosen), measured)
    return soup
