"""Intervals of the mean average precision of several classes over the choice of images, from the scores that are kept.

It is a ranking over a whole split and no mean over images, so images are drawn anew and ranked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from expflow.ledger.state import SweepState, TrialState
from expflow.report.bootstrap import ImageInterval, percentile_interval
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


def label_interval(networks: Sequence[LabelScores], metric: str) -> ImageInterval | None:
    """The mean of ``map`` over several networks, and its percentile interval over the images that all of them saw.

    In a draw, the mean is over the classes that some drawn image is of.

    Args:
        networks: Scores of each network.
        metric: A metric with its split: ``val/map``.

    Returns:
        None where these are of different images, or the metric is another one.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    if metric.rpartition("/")[2] != "map" or not networks or not len(networks[0]):
        return None
    if any(not np.array_equal(networks[0].ids, other.ids) for other in networks[1:]):
        return None
    whole = [class_average_precisions(network)[0] for network in networks]
    if any(np.isnan(values).all() for values in whole):
        return None
    n, mean = len(networks[0]), float(np.mean([np.nanmean(values) for values in whole]))
    if n == 1:
        return ImageInterval(mean, 1, None, None)
    return percentile_interval(mean, n, _resampled(networks, n))


def _resampled(networks: Sequence[LabelScores], n: int) -> list[float]:
    """The mean over images drawn anew; a draw in which no image is of any class says nothing, and is left out."""
    random, means = np.random.default_rng(_SEED), list[float]()
    at_once = max(1, min(RESAMPLES, _AT_ONCE // n))
    for first in range(0, RESAMPLES, at_once):
        size = min(at_once, RESAMPLES - first)
        drawn = random.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        of_networks = [class_average_precisions(network, drawn) for network in networks]
        counts = ~np.isnan(of_networks[0]).all(axis=1)
        means += np.mean([np.nanmean(values[counts], axis=1) for values in of_networks], axis=0).tolist()
    return means


def read_label_scores(folder: Path, state: SweepState, trial: TrialState, split: str) -> LabelScores | None:
    """The kept scores of a trial; None where there are none that can be read.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
        split: Which split they are of.
    """
    return read_kept(load_label_scores, label_scores_file(split), folder, state, trial)
