"""Files of predictions that trials keep beside their results, as a report reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from expflow.errors import PredictionsDamaged
from expflow.ledger.state import SweepState, TrialState
from expflow.sweep.result_location import ResultLocation

Kept = TypeVar("Kept")


def read_kept(
    load: Callable[[Path], Kept], name: str, folder: Path, state: SweepState, trial: TrialState
) -> Kept | None:
    """What a file of a trial holds; None where it cannot be read: a report must not fail for what it can do without.

    Args:
        load: Reads such a file.
        name: The file, below the trial's folder.
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
    """
    try:
        return load(ResultLocation(folder, state).trial_folder(trial) / name)
    except (OSError, PredictionsDamaged):
        return None
