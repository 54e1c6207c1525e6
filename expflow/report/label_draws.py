"""The mean average precision of several classes over images drawn anew, from the scores that are kept.

It is a ranking over a whole split and no mean over images, so images are drawn anew and ranked again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from expflow.ledger.state import SweepState, TrialState
from expflow.report.image_draws import ImageDraws
from expflow.report.kept_predictions import read_kept
from expflow.training.evaluation.label_scores import (
    LabelScores,
    class_average_precisions,
    label_scores_file,
    load_label_scores,
)

RESAMPLES = 1000
_SEED = 20_103
_AT_ONCE = 2**22
"""Weights of images that are ranked at once: 32 MiB."""


def label_draws(network: LabelScores, metric: str) -> ImageDraws | None:
    """``map`` of a network over images drawn anew; in a draw, it is over the classes that some drawn image is of.

    Args:
        network: Its scores.
        metric: A metric with its split: ``val/map``.

    Returns:
        None where no image is of any class, or the metric is another one.
    """
    whole = class_average_precisions(network)[0] if metric.rpartition("/")[2] == "map" and len(network) else None
    if whole is None or np.isnan(whole).all():
        return None
    random, n, parts = np.random.default_rng(_SEED), len(network), []
    at_once = max(1, min(RESAMPLES, _AT_ONCE // n))
    for first in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - first)
        drawn = random.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        values = class_average_precisions(network, drawn)
        there = ~np.isnan(values)
        sums = np.where(there, values, 0).sum(axis=1)
        parts.append(np.where(there.any(axis=1), sums / np.maximum(there.sum(axis=1), 1), np.nan))
    return ImageDraws(network.ids, float(np.nanmean(whole)), np.concatenate(parts))


def read_label_scores(folder: Path, state: SweepState, trial: TrialState, split: str) -> LabelScores | None:
    """The kept scores of a trial; None where there are none that can be read.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
        split: Which split they are of.
    """
    return read_kept(load_label_scores, label_scores_file(split), folder, state, trial)
