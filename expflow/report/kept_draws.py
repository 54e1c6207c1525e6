"""Metrics of trials over images drawn anew, from whichever file of predictions their task keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expflow.ledger.state import SweepState, TrialState
from expflow.report import trial_results
from expflow.report.image_draws import ImageDraws
from expflow.report.label_draws import label_draws, read_label_scores
from expflow.report.overlap_draws import overlap_draws, read_overlaps


def read_draws(
    folder: Path, state: SweepState, trial: TrialState, metric: str, *, for_error: bool = False
) -> ImageDraws | None:
    """A metric that is no mean over images, over images drawn anew: of masks by their areas, of classes and boxes by
    rank.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
        metric: A metric with its split.
        for_error: Whether a standard error is computed of the draws, so that fewer are enough.

    Returns:
        None where the trial keeps nothing that holds the metric.
    """
    split = metric.partition("/")[0]
    if (overlaps := read_overlaps(folder, state, trial, split)) is not None:
        return overlap_draws(overlaps, metric)
    if (scores := read_label_scores(folder, state, trial, split)) is not None:
        return label_draws(scores, metric)
    from expflow.report import detection_draws as detection  # it imports Pillow

    arrays = detection.read_detections(folder, state, trial, split)
    if arrays is None:
        return None
    recipe, default = trial_results.header_of(state).recipe, detection.DetectionSettings()
    small, large = trial_results.lookup(trial.values, recipe, "task.areas") or default.areas
    most = trial_results.lookup(trial.values, recipe, "task.max_detections") or default.max_detections
    settings = detection.DetectionSettings((float(small), float(large)), int(most))
    resamples = detection.ERROR_RESAMPLES if for_error else detection.RESAMPLES
    return detection.detection_draws(arrays, metric, settings, resamples)


def read_all_draws(
    folder: Path, state: SweepState, trials: Sequence[TrialState], metric: str
) -> list[ImageDraws] | None:
    """:func:`read_draws` of several trials; None unless all have them.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trials: The trials.
        metric: A metric with its split.
    """
    draws = [known for trial in trials if (known := read_draws(folder, state, trial, metric)) is not None]
    return draws if len(draws) == len(trials) else None
