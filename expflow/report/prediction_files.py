"""The predictions that trials keep, as far as they can be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from expflow.errors import PredictionsDamaged
from expflow.ledger.state import SweepState
from expflow.sweep.test_evaluation import KEPT, predictions_path
from expflow.sweep.trial_evaluation import COMBINED
from expflow.training.evaluation.predictions import Predictions, load_predictions


def read_predictions(folder: Path, state: SweepState, name: str, split: str, sha256: str = "") -> Predictions | None:
    """The kept predictions of a trial, or of what was combined of several.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        name: A trial id, or ``ensemble``, ``uniform_soup``, ``greedy_soup``.
        split: Which split they are of.
        sha256: Expected hash of the file; it is not checked where this is empty.

    Returns:
        None where there are none that can be read, and where the file is another one than ``sha256`` says: of a later
        test evaluation, or of more epochs.
    """
    if name not in COMBINED and name not in state.trials:  # a ledger that was cut names trials that it does not hold
        return None
    path = predictions_path(folder, state, name, split)
    try:
        if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            return None
        return load_predictions(path)
    except (OSError, PredictionsDamaged):  # a report must not fail for what it can do without
        return None


def is_kept(folder: Path, state: SweepState, name: str, sha256: str, split: str = "test") -> bool:
    """Whether a trial still has the file of its samples that an evaluation recorded.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        name: A trial id.
        sha256: The hash that was recorded.
        split: The split that was evaluated.
    """
    for what in KEPT:
        path = predictions_path(folder, state, name, split, what=what)
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return True
    return False


def same_images(one: Predictions, other: Predictions) -> bool:
    """Whether two networks' predictions are of the same images.

    Args:
        one: Predictions.
        other: Predictions of the same split.
    """
    return bool(np.array_equal(one.ids, other.ids) and np.array_equal(one.labels, other.labels))
