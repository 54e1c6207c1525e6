"""For which images an answer holds: the differences of a contrast image by image, and their test for other images.

A paired test over seeds is about these images: two configs that are equally good may differ on the few hundred images
of a val split by more than their seeds do, and then every seed says so. For other images the spread over images counts
as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from expflow.report.image_draws import ImageDraws, image_spread, same_draws
from expflow.report.kept_draws import read_draws
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
    by_seed = float(differences.mean(axis=1).std(ddof=1))
    by_image = float(differences.mean(axis=0).std(ddof=1))
    return _two_way_test(float(differences.mean()), (by_seed, n), (by_image, images), margin)


def drawn_test(
    whole: NDArray[np.float64], drawn: NDArray[np.float64], images: int, margin: float | None = None
) -> ImageTest | None:
    """:func:`image_test` of a metric that is no mean over images: its spread over draws of them stands for v / sqrt(N).

    Args:
        whole: (n,) for each seed the difference of the two sides, at least two.
        drawn: (n, draws) the same on images drawn anew; nan where a draw says nothing.
        images: Number of images in a draw.
        margin: As of :func:`image_test`.

    Returns:
        None with one image, or where fewer than two draws say something.
    """
    known = drawn[:, np.isfinite(drawn).all(axis=0)]
    if images < 2 or known.shape[1] < 2:
        return None
    spread = image_spread(known, images)
    return _two_way_test(float(whole.mean()), (float(whole.std(ddof=1)), len(whole)), (spread, images), margin)


def _two_way_test(
    mean: float, by_seed: tuple[float, int], by_image: tuple[float, int], margin: float | None
) -> ImageTest:
    """The test of a mean from the spreads over seeds and over images, each with the number of them."""
    error = two_way_error(*by_seed, *by_image)
    scale = math.sqrt(error.variance)
    half = t_quantile((1 + CONFIDENCE) / 2, error.freedom) * scale
    p = None
    if scale > 0:
        t = (mean + (margin or 0.0)) / scale
        p = 2 * float(stdtr(error.freedom, -abs(t))) if margin is None else float(stdtr(error.freedom, -t))
    return ImageTest(by_image[1], None if p is None else min(1.0, p), mean - half, mean + half, error.freedom)


class ImageDifferences:
    """The differences of contrasts image by image, from the predictions that trials keep.

    Args:
        folder: The results folder, which has the kept predictions.
        state: What its ledger adds up to.
    """

    def __init__(self, folder: Path, state: SweepState) -> None:
        self._folder, self._state = folder, state
        self._known: dict[tuple[str, str], Predictions | None] = {}
        self._draws: dict[tuple[str, str], ImageDraws | None] = {}

    def test(
        self, comparison: Comparison, seeds: Sequence[int], header: Header, turn: float, margin: float | None
    ) -> ImageTest | None:
        """Test the difference of a comparison for other images.

        Args:
            comparison: The configs.
            seeds: Seeds that are complete.
            header: The sweep's header.
            turn: -1 where the difference is turned, so that up is better.
            margin: As of :func:`image_test`.

        Returns:
            None where predictions are missing, are of different images, or are not what the metric's values are of.
        """
        metric = comparison.contrast["metric"]
        if len(seeds) < 2:
            return None
        chosen = (chosen_trial(term, seed, seeds, header) for term in comparison.terms for seed in seeds)
        trials = list({trial.trial: trial for trial in chosen if trial}.values())
        of, against = seed_values(comparison, seeds, header)
        means = np.asarray(of) - np.asarray(against)
        if is_per_sample(metric):
            values = self._values(trials, metric.partition("/")[0], metric)
            differences = None if values is None else _differences(values, comparison, seeds, header)
            if differences is None or differences.shape[1] < 2 or not _agree(differences.mean(axis=1), means):
                return None
            return image_test(turn * differences, margin)
        draws = self._drawn(trials, metric)
        if not draws or not same_draws(list(draws.values())):
            return None
        rows = {name: np.append(known.whole, known.drawn) for name, known in draws.items()}
        differences = _differences(rows, comparison, seeds, header)
        if not _agree(differences[:, 0], means):
            return None
        images = len(next(iter(draws.values())).ids)
        return drawn_test(turn * differences[:, 0], turn * differences[:, 1:], images, margin)

    def _drawn(self, trials: Sequence[TrialState], metric: str) -> dict[str, ImageDraws] | None:
        """Trial id -> the metric over draws of images; None unless all have it."""
        draws: dict[str, ImageDraws] = {}
        for trial in trials:
            key = (trial.trial, metric)
            if key not in self._draws:
                self._draws[key] = read_draws(self._folder, self._state, trial, metric, for_error=True)
            known = self._draws[key]
            if known is None:
                return None
            draws[trial.trial] = known
        return draws

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


def _differences(
    values: Mapping[str, NDArray[np.float64]], comparison: Comparison, seeds: Sequence[int], header: Header
) -> NDArray[np.float64]:
    """A row of differences for each seed, from each trial's row of values."""

    def add(parts: Sequence[tuple[float, NDArray[np.float64]]]) -> NDArray[np.float64]:
        return np.sum([weight * part for weight, part in parts], axis=0)

    first, second = side_values(comparison, seeds, header, lambda trial: values[trial.trial], add)
    differences: NDArray[np.float64] = np.asarray(first) - np.asarray(second)
    return differences


def _agree(measured: NDArray[np.float64], reported: NDArray[np.float64]) -> bool:
    """Whether what kept predictions give is what was reported: they may be of another epoch."""
    return bool(np.abs(measured - reported).max() <= _EQUAL * (1 + np.abs(reported).max()))


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
