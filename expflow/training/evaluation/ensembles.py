"""Several trials' networks combined: the mean of their probabilities, or of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from expflow.errors import CheckpointMismatch, UserError
from expflow.training.checkpoints.tensor_files import shape_differences
from expflow.training.evaluation.evaluator import Evaluator, SplitMetrics, Weights
from expflow.training.evaluation.predictions import FIRST, Predictions


def ensemble(members: Sequence[SplitMetrics]) -> SplitMetrics:
    """The mean of the members' probabilities on one split, image by image.

    ``loss`` is the mean of -ln of the probability of the label: the cross entropy, whatever the members were trained
    on.

    Args:
        members: What each member gave, with all probabilities.

    Raises:
        UserError: A member has no probabilities, or was evaluated on other images or classes.
    """
    first = members[0].predictions
    probabilities = [member.probabilities for member in members]
    if first is None or any(rows is None for rows in probabilities):
        raise UserError(
            "an ensemble averages probabilities, which only tasks give that put each sample as a whole into one class"
        )
    for member in members:
        other = member.predictions
        if other is None or other.classes != first.classes or not np.array_equal(other.ids, first.ids):
            raise UserError("an ensemble's members must be evaluated on the same images and classes")
    mean: NDArray[np.float64] = np.mean([rows for rows in probabilities if rows is not None], axis=0)
    predictions = _from_probabilities(first, mean)
    return SplitMetrics(metrics_of(predictions), predictions, mean)


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
    """``loss``, ``top1`` and, with more than five classes, ``top5`` of predictions, under their split's name.

    Args:
        predictions: Of at least one sample.
    """
    metrics = {"loss": float(predictions.losses.mean(dtype=np.float64)), "top1": float(predictions.hits.mean())}
    if predictions.classes > FIRST:
        metrics["top5"] = float(predictions.hits_among(FIRST).mean())
    return {f"{predictions.split}/{name}": value for name, value in metrics.items()}


def mean_weights(all_weights: Sequence[Weights]) -> Weights:
    """The mean of several networks' weights; entries that are no floating-point numbers (counters) are the first one's.

    Args:
        all_weights: At least one network's.

    Raises:
        CheckpointMismatch: They are of different architectures.
    """
    first = all_weights[0]
    for weights in all_weights[1:]:
        if different := shape_differences(weights, first):
            raise CheckpointMismatch(f"weights of different architectures have no mean:\n{different}")
    return {
        name: torch.stack([weights[name].double() for weights in all_weights]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


@dataclass(frozen=True)
class Soup:
    """An average of the weights of some of the trials.

    Attributes:
        weights: The average.
        members: Names of the trials in it.
        val: What it gave on val; None where there is no val.
    """

    weights: Weights
    members: tuple[str, ...]
    val: SplitMetrics | None


def uniform_soup(evaluator: Evaluator, trials: Mapping[str, Weights], *, val: bool = True) -> Soup:
    """The mean of all trials' weights.

    Args:
        evaluator: Of their recipe.
        trials: Each trial's weights.
        val: Whether it is evaluated on val.

    Source:
        Wortsman et al., Model soups, 2022, section 2.
    """
    weights = evaluator.recalibrated(mean_weights(list(trials.values())))
    return Soup(weights, tuple(trials), evaluator.evaluate(weights, "val", rows=True) if val else None)


def greedy_soup(evaluator: Evaluator, trials: Mapping[str, Weights], metric: str, *, better: str) -> Soup:
    """A mean to which each trial's weights are added, the best on val first, where val gets no worse by it.

    Args:
        evaluator: Of their recipe.
        trials: Each trial's weights.
        metric: What is compared, measured on val.
        better: ``max`` or ``min``.

    Raises:
        UserError: The task does not give ``metric``.

    Source:
        Wortsman et al., Model soups, 2022, section 2, recipe 1.
    """
    sign = 1.0 if better == "max" else -1.0

    def score(result: SplitMetrics) -> float:
        if metric not in result.metrics:
            known = ", ".join(sorted(result.metrics)) or "nothing"
            raise UserError(f"a greedy soup is chosen by {metric}, and the task measures {known}")
        return sign * result.metrics[metric]

    alone = {name: evaluator.evaluate(weights, "val", rows=True) for name, weights in trials.items()}
    order = sorted(trials, key=lambda name: -score(alone[name]))
    chosen = [order[0]]
    soup = Soup(trials[order[0]], (order[0],), alone[order[0]])
    best = score(alone[order[0]])
    for name in order[1:]:
        weights = evaluator.recalibrated(mean_weights([trials[member] for member in (*chosen, name)]))
        result = evaluator.evaluate(weights, "val", rows=True)
        if score(result) >= best:
            chosen.append(name)
            best, soup = score(result), Soup(weights, tuple(chosen), result)
    return soup
