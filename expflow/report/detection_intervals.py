"""Intervals of average precision over the choice of images, from the predictions that trials of detection keep.

AP is a ranking over a whole split and no mean over images, so images are drawn anew, each with all of its predictions
and objects as they were matched, and AP is computed of what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from expflow.ledger.state import SweepState, TrialState
from expflow.report.bootstrap import ImageInterval, percentile_interval
from expflow.report.kept_predictions import read_kept
from expflow.tasks.average_precision import EVERY_SIZE, ClassMatches, match_classes, precision_metrics
from expflow.tasks.detections import DetectionArrays
from expflow.training.evaluation.kept_detections import detections_file, load_detections

RESAMPLES = 1000
_SEED = 20_102

_NAMES = ("ap", "ap50", "ap75")


def detection_interval(networks: Sequence[DetectionArrays], metric: str) -> ImageInterval | None:
    """The mean of a metric over several networks, and its percentile interval over the images that all of them saw.

    Args:
        networks: What each network found.
        metric: A metric with its split: ``val/ap``, ``val/ap50`` or ``val/ap75``, or of masks ``val/mask_ap``.

    Returns:
        None where these are of different images, or do not hold the metric.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    kind = metric.rpartition("/")[2]
    name = kind.removeprefix("mask_")
    if name not in _NAMES or not networks or not len(networks[0]):
        return None
    if any(not np.array_equal(networks[0].ids, other.ids) for other in networks[1:]):
        return None
    if kind != name and any(network.mask_ious is None for network in networks):
        return None
    matched = [match_classes(network, [EVERY_SIZE], masks=kind != name)[0] for network in networks]
    whole = [precision_metrics(matches).get(name) for matches in matched]
    if any(value is None for value in whole):
        return None
    n, mean = len(networks[0]), float(np.mean([value for value in whole if value is not None]))
    if n == 1:
        return ImageInterval(mean, 1, None, None)
    return percentile_interval(mean, n, _resampled(matched, name, n))


def _resampled(matched: Sequence[dict[int, ClassMatches]], name: str, n: int) -> list[float]:
    """The metric over images drawn anew; a draw without any object says nothing, and is left out."""
    drawn = np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    means = []
    for weights in drawn:
        values = [precision_metrics(matches, weights).get(name) for matches in matched]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            means.append(float(np.mean(known)))
    return means


def read_detections(folder: Path, state: SweepState, trial: TrialState, split: str) -> DetectionArrays | None:
    """The kept detections of a trial; None where there are none that can be read.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
        split: Which split they are of.
    """
    return read_kept(load_detections, detections_file(split), folder, state, trial)
