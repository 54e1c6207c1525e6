"""For which images an answer holds: the differences of a contrast image by image, and their test for other images.

A paired test over seeds is about these images: two configs that are equally good may differ on the few hundred images
of a val split by more than their seeds do, and then every seed says so. For other images the spread over images counts
as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from expflow.intervals import CONFIDENCE, t_quantile, two_way_error
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState, TrialState
from expflow.metrics import is_per_sample, top_k
from expflow.report.contrast_terms import Comparison, chosen_trial, seed_values, side_values
from expflow.report.prediction_files import read_predictions, same_images
from expflow.training.evaluation.predictions import Predictions

_EQUAL = 1e-5
"""How far a mean over images may lie from the reported value, which was summed up in another precision and order."""


@dataclass(frozen=True)
class ImageTest:
    """The test of a mean difference for other seeds and other images.

    Attributes:
        images: Number of images.
        p: Its probability, as one-sided as the test over seeds; None where there is no spread at all.
        low: Lower end of the 95 % interval of the mean difference.
        high: Upper end of it.
        freedom: Degrees of freedom (Satterthwaite).
    """

    images: int
    p: float | None
    low: float
    high: float
    freedom: float


def image_test(differences: NDArray[np.float64], margin: float | None = None) -> ImageTest:
    """Test the mean of differences that vary over seeds and over images.

    Args:
        differences: (n, N) for each seed and image the difference of the two sides; n and N are at least two.
        margin: None for a two-sided test against zero; otherwise: is the mean above ``-margin``?
    """
    n, images = differences.shape
    mean = float(differences.mean())
    by_seed = float(differences.mean(axis=1).std(ddof=1))
    by_image = float(differences.mean(axis=0).std(ddof=1))
    error = two_way_error(by_seed, n, by_image, images)
    scale = math.sqrt(error.variance)
    half = t_quantile((1 + CONFIDENCE) / 2, error.freedom) * scale
    p = None
    if scale > 0:
        t = (mean + (margin or 0.0)) / scale
        p = 2 * float(stdtr(error.freedom, -abs(t))) if margin is None else float(stdtr(error.freedom, -t))
    return ImageTest(images, None if p is None else min(1.0, p), mean - half, mean + half, error.freedom)


class ImageDifferences:
    """The differences of contrasts image by image, from the predictions that trials keep.

    Args:
        folder: The results folder, which has the kept predictions.
        state: What its ledger adds up to.
    """

    def __init__(self, folder: Path, state: SweepState) -> None:
        self._folder, self._state = folder, state
        self._known: dict[tuple[str, str], Predictions | None] = {}

    def of(self, comparison: Comparison, seeds: Sequence[int], header: Header) -> NDArray[np.float64] | None:
        """The differences of a comparison.

        Args:
            comparison: The configs.
            seeds: Seeds that are complete.
            header: The sweep's header.

        Returns:
            (n, N), a row for each seed; None where predictions are missing, are of different images, or are not what
            the metric's values are means of.
        """
        metric = comparison.contrast["metric"]
        if not is_per_sample(metric) or len(seeds) < 2:
            return None
        split = metric.partition("/")[0]
        trials = {
            trial.trial: trial
            for term in comparison.terms
            for seed in seeds
            if (trial := chosen_trial(term, seed, seeds, header))
        }
        values = self._values(list(trials.values()), split, metric)
        if values is None:
            return None

        def add(parts: Sequence[tuple[float, NDArray[np.float64]]]) -> NDArray[np.float64]:
            return np.sum([weight * part for weight, part in parts], axis=0)

        first, second = side_values(comparison, seeds, header, lambda trial: values[trial.trial], add)
        differences: NDArray[np.float64] = np.asarray(first) - np.asarray(second)
        of, against = seed_values(comparison, seeds, header)
        means = np.asarray(of) - np.asarray(against)
        if differences.shape[1] < 2 or np.abs(differences.mean(axis=1) - means).max() > _EQUAL * (
            1 + np.abs(means).max()
        ):
            return None
        return differences

    def _values(self, trials: Sequence[TrialState], split: str, metric: str) -> dict[str, NDArray[np.float64]] | None:
        """Trial id -> the metric's value for each image; None unless all have them, of the same images."""
        values: dict[str, NDArray[np.float64]] = {}
        first: Predictions | None = None
        for trial in trials:
            key = (trial.trial, split)
            if key not in self._known:
                self._known[key] = read_predictions(self._folder, self._state, trial.trial, split)
            predictions = self._known[key]
            if predictions is None or (first is not None and not same_images(first, predictions)):
                return None
            first = first or predictions
            known = values_per_image(predictions, metric)
            if known is None:
                return None
            values[trial.trial] = known
        return values


def values_per_image(predictions: Predictions, metric: str) -> NDArray[np.float64] | None:
    """The values that a metric is the mean of.

    Args:
        predictions: Those of one network.
        metric: A metric with its split.

    Returns:
        (N,) hits as 0 and 1, or losses; None where these predictions do not hold the metric image by image.
    """
    k = top_k(metric)
    if k is not None and k <= predictions.top.shape[1]:
        return predictions.hits_among(k).astype(np.float64)
    if metric.rpartition("/")[2] == "loss" and np.isfinite(predictions.losses).all():
        return predictions.losses.astype(np.float64)
    return None
