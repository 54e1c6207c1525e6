"""mIoU and pixel accuracy over images drawn anew, from the overlaps that trials keep.

Both are ratios of sums over images, so images are drawn anew and the ratio is taken of what was drawn: a mean of
per-image ratios would be another metric.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from expflow.ledger.state import SweepState, TrialState
from expflow.report.image_draws import ImageDraws
from expflow.report.kept_predictions import read_kept
from expflow.training.evaluation.overlaps import MaskOverlaps, load_overlaps, overlap_metric, overlaps_file

RESAMPLES = 2000
_SEED = 20_101


def overlap_draws(network: MaskOverlaps, metric: str) -> ImageDraws | None:
    """A metric of a network over images drawn anew.

    Args:
        network: Its overlaps.
        metric: A metric with its split, such as ``val/miou``.

    Returns:
        None where there is no image, or the overlaps do not hold the metric.
    """
    name, n = metric.rpartition("/")[2], len(network)
    whole = overlap_metric(network.counts.sum(axis=0), name)
    if n == 0 or whole is None:
        return None
    drawn = np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    values = overlap_metric((drawn @ network.counts.reshape(n, -1)).reshape(RESAMPLES, 3, -1), name)
    return None if values is None else ImageDraws(network.ids, float(whole), values)


def read_overlaps(folder: Path, state: SweepState, trial: TrialState, split: str) -> MaskOverlaps | None:
    """The kept overlaps of a trial; None where there are none that can be read.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
        split: Which split they are of.
    """
    return read_kept(load_overlaps, overlaps_file(split), folder, state, trial)
