"""Average precision over images drawn anew, from the predictions that trials of detection keep.

AP is a ranking over a whole split and no mean over images, so images are drawn anew, each with all of its predictions
and objects as they were matched, and AP is computed of what was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expflow.ledger.state import SweepState, TrialState
from expflow.report.image_draws import ImageDraws
from expflow.report.kept_predictions import read_kept
from expflow.tasks.average_precision import (
    COCO_AREAS,
    EVERY_SIZE,
    MOST_DETECTIONS,
    MOST_POSES,
    SIZES,
    Overlap,
    match_classes,
    precision_metrics,
    size_ranges,
)
from expflow.tasks.detections import DetectionArrays
from expflow.training.evaluation.kept_detections import detections_file, load_detections

RESAMPLES = 1000
ERROR_RESAMPLES = 200
"""Draws for a standard error, which needs fewer than the ends of an interval (Efron and Tibshirani 1993, chapter 6)."""
_SEED = 20_102

_NAMES = ("ap", "ap50", "ap75")
_COMPARED: tuple[Overlap, ...] = ("mask", "keypoint")


@dataclass(frozen=True)
class DetectionSettings:
    """What a task measures detections by.

    Attributes:
        areas: Borders between small, medium and large objects, in pixels of the original image.
        max_detections: Predictions of an image and class that count.
    """

    areas: tuple[float, float] = COCO_AREAS
    max_detections: int = MOST_DETECTIONS


def detection_draws(
    network: DetectionArrays, metric: str, settings: DetectionSettings | None = None, resamples: int = RESAMPLES
) -> ImageDraws | None:
    """A metric of a network over images drawn anew.

    Args:
        network: What it found.
        metric: A metric with its split: ``val/ap``, ``val/ap50`` or ``val/ap75``, ``val/ap_small`` and the other sizes,
            or of masks ``val/mask_ap`` and of keypoints ``val/keypoint_ap``.
        settings: What its task measured by.
        resamples: How many times images are drawn.

    Returns:
        None where there is no image or no object, or the detections do not hold the metric.
    """
    settings = settings or DetectionSettings()
    kind = metric.rpartition("/")[2]
    by: Overlap = next((compared for compared in _COMPARED if kind.startswith(f"{compared}_")), "box")
    name, size = kind.removeprefix(f"{by}_"), kind.removeprefix("ap_")
    most = min(settings.max_detections, MOST_POSES) if by == "keypoint" else settings.max_detections
    missing = {"mask": network.mask_ious, "keypoint": network.points}.get(by, network.boxes) is None
    limits = dict(zip(SIZES, size_ranges(settings.areas), strict=True)).get(size, EVERY_SIZE)
    name = "ap" if size in SIZES else name
    if name not in _NAMES or not len(network) or missing:
        return None
    (matches,) = match_classes(network, [limits], most, by=by)
    whole, n = precision_metrics(matches).get(name), len(network)
    if whole is None:
        return None
    drawn = np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    values = [precision_metrics(matches, weights).get(name, float("nan")) for weights in drawn]
    return ImageDraws(network.ids, whole, np.asarray(values))


def read_detections(folder: Path, state: SweepState, trial: TrialState, split: str) -> DetectionArrays | None:
    """The kept detections of a trial; None where there are none that can be read.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
        split: Which split they are of.
    """
    return read_kept(load_detections, detections_file(split), folder, state, trial)
