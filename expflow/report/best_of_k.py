"""What choosing the best of several configs on val is worth: its score without the luck that it was chosen for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expflow.intervals import CONFIDENCE, logit_interval, shrunken, t_quantile, two_way_error
from expflow.ledger.state import SweepState, TrialState
from expflow.ledger.trial_values import finite
from expflow.metrics import is_per_sample, is_share, metric_value
from expflow.report import trial_results
from expflow.report.leaderboard import Leaderboard
from expflow.report.prediction_files import read_predictions
from expflow.report.prediction_statistics import image_values

RESAMPLES = 200
"""Resamples of the images for each seed that is left out."""
_SEED = 20_500
_MOST_NUMBERS = 400_000_000
"""Of more values per image than this (configs times seeds times images) no estimate is made: it would take minutes."""


@dataclass(frozen=True)
class BestOfK:
    """The score of the choice of the best of k configs.

    Attributes:
        configs: Among how many configs it was chosen.
        tried: How many configs were ever tried on this val split by the experiment, as far as its results show.
        score: What the choice is expected to give with other seeds on other images; None with one seed, and where no
            values per image are kept.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
        why: Why there is no score; empty where there is one.
    """

    configs: int
    tried: int
    score: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


def best_note(best: BestOfK, metric: str) -> str:
    """What the choice is worth, in a sentence.

    Args:
        best: The score of the choice.
        metric: The metric that it was made by.
    """
    tried = f" ({best.tried} were tried on this split in all)" if best.tried > best.configs else ""
    if best.score is None or best.low is None or best.high is None:
        return f"What choosing the best of {best.configs} configs{tried} is worth cannot be estimated: {best.why}."
    low, high = (metric_value(metric, end, unit=False) for end in (best.low, best.high))
    return (
        f"Choosing the best of {best.configs} configs{tried} is worth {metric_value(metric, best.score)} "
        f"[{low}, {high}] on other seeds and images: chosen on the other seeds and a resample of the images, measured "
        "on what was left out."
    )


@dataclass(frozen=True)
class SelectionEstimate:
    """The cross-validated score of a choice and its 95 % interval.

    Attributes:
        score: The mean over left-out seeds and images.
        low: Lower end.
        high: Upper end.
    """

    score: float
    low: float
    high: float


def best_of_k(
    board: Leaderboard, state: SweepState, folder: Path, *, related: Sequence[SweepState] = ()
) -> BestOfK | None:
    """The score of the leaderboard's choice.

    Args:
        board: The leaderboard.
        state: What the ledger adds up to.
        folder: The results folder, which has the kept predictions.
        related: Other results of the experiment, whose configs count where they were measured on the same data.

    Returns:
        None where nothing was chosen: there is no ranked config, or only one.
    """
    rows = [row for row in board.rows if row.rank is not None]
    if len(rows) < 2:
        return None
    data = trial_results.header_of(state).data.get("key")
    others = (other for other in related if trial_results.header_of(other).data.get("key") == data)
    count = len(set[str]().union(*(tried_configs(results, board.metric) for results in (state, *others))))
    seeds = sorted(set.intersection(*({trial.seed for trial in row.trials} for row in rows)))
    if len(seeds) < 2:
        return BestOfK(len(rows), count, why="that takes two seeds that all of them have")
    if board.select != "last":
        return BestOfK(len(rows), count, why="no values per image are kept of the best epochs")
    if not is_per_sample(board.metric):
        return BestOfK(len(rows), count, why=f"{board.metric} is no mean over images")
    chosen = [[trial for trial in row.trials if trial.seed in seeds] for row in rows]
    values = _values(chosen, state, folder, board.metric)
    if values is None:
        return BestOfK(len(rows), count, why="values per image are not kept of every config")
    if board.mode == "min":
        estimate = selection_estimate(-values, share=False)
        return BestOfK(len(rows), count, -estimate.score, -estimate.high, -estimate.low)
    estimate = selection_estimate(values, share=is_share(board.metric))
    return BestOfK(len(rows), count, estimate.score, estimate.low, estimate.high)


def tried_configs(state: SweepState, metric: str) -> set[str]:
    """The configs that have reported a metric, of whatever plan.

    Args:
        state: What a ledger adds up to.
        metric: A reported name with its split.
    """
    return {
        trial.config
        for trial in state.trials.values()
        if any(finite(report.metrics.get(metric)) is not None for report in trial.reports)
    }


def _values(
    configs: Sequence[Sequence[TrialState]], state: SweepState, folder: Path, metric: str
) -> NDArray[np.float64] | None:
    """(configs, seeds, images); None unless all trials have values of the same images."""
    split = metric.partition("/")[0]
    first = read_predictions(folder, state, configs[0][0].trial, split)
    if first is None or len(configs) * len(configs[0]) * len(first) > _MOST_NUMBERS:
        return None
    networks = [read_predictions(folder, state, trial.trial, split) for trials in configs for trial in trials]
    values = image_values(networks, metric)
    return None if values is None else values.reshape(len(configs), len(configs[0]), -1)


def selection_estimate(values: NDArray[np.float64], *, share: bool, resamples: int = RESAMPLES) -> SelectionEstimate:
    """What choosing the config with the best mean gives on other seeds and other images.

    For each seed and each resample of the images: the choice is made on the other seeds and the images of the
    resample, and measured with the seed on the images that the resample left out. The spread over seeds is pooled over
    configs, each as often as it was chosen: one that fails with some seeds and is never chosen says nothing of it.

    Args:
        values: (k, n, N) for each config, seed and image; more is better; k and n are at least two.
        share: Whether they are of a share, whose interval is taken on the scale of the logit.
        resamples: How often images are drawn for each seed.

    Source: B. Efron and R. Tibshirani, Journal of the American Statistical Association 92, 1997 (the leave-one-out
    bootstrap), with seeds left out as well.
    """
    k, n, images = values.shape
    generator = np.random.default_rng(_SEED)
    counts = generator.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)
    left_out = (counts == 0).astype(np.float64)
    left_out /= np.maximum(left_out.sum(axis=1, keepdims=True), 1.0)
    total, scores, chosen = values.sum(axis=1), [], np.zeros(k)
    for seed in range(n):
        choices = ((total - values[:, seed]) @ counts.T).argmax(axis=0)
        measured = values[:, seed] @ left_out.T
        scores.append(measured[choices, np.arange(resamples)].mean())
        chosen += np.bincount(choices, minlength=k)
    score, weights = float(np.mean(scores)), chosen / chosen.sum()
    by_seed = float(np.sqrt(weights @ values.mean(axis=2).var(axis=1, ddof=1)))
    if share:
        by_seed = max(by_seed, 1 / (2 * images))
    winner = int(total.sum(axis=1).argmax())
    by_image = float(values[winner].mean(axis=0).std(ddof=1))
    error = two_way_error(by_seed, n, by_image, images, seed_freedom=(n - 1) / float(weights @ weights))
    scale = math.sqrt(error.variance)
    if share:
        low, high = logit_interval(shrunken(score, n * images), scale, error.freedom)
    else:
        half = t_quantile((1 + CONFIDENCE) / 2, error.freedom) * scale
        low, high = score - half, score + half
    return SelectionEstimate(score, low, high)
