"""``status --json``: the trials of one experiment, or all experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from expflow.ledger import SweepState, TrialState, load_state
from expflow.ledger.trial_values import finite
from expflow.report import trial_results
from expflow.sweep.result_location import ResultLocation, has_live_driver, result_folders
from expflow.sweep.trial_counts import state_word


@dataclass(frozen=True)
class TrialStatusRow:
    """A trial.

    Attributes:
        trial: Its id; ``NAME/ID`` is its address.
        config: Its config's id.
        seed: Its seed.
        values: Searched key -> value.
        state: ``running``, ``cut short`` (its driver is gone), ``waiting``, ``paused``, ``done``, ``stopped`` or
            ``failed``.
        progress: Share of its budget that is spent, 0 to 1.
        metrics: The last report's metrics.
        seconds: How long its last attempt took; 0 before it ended.
        failure: The class of its last failure; empty where it did not fail.
        message: What happened then.
    """

    trial: str
    config: str
    seed: int
    values: Mapping[str, Any]
    state: str
    progress: float
    metrics: Mapping[str, float | None]
    seconds: float
    failure: str
    message: str


@dataclass(frozen=True)
class StatusDocument:
    """The trials of an experiment, as the ledger has them.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results.
        folder: Their folder.
        running: Whether a driver works on them now.
        metric: What the sweep is judged by.
        expected: How many trials the plan expects.
        complete: Whether every trial has ended.
        counts: State -> number of trials.
        trials: The trials, in the order of their proposals.
        command: The command that continues; empty where it is not known.
    """

    document: Literal["status"]
    version: Literal[1]
    name: str
    folder: str
    running: bool
    metric: str
    expected: int
    complete: bool
    counts: Mapping[str, int]
    trials: tuple[TrialStatusRow, ...]
    command: str


@dataclass(frozen=True)
class StoredExperiment:
    """The results of one experiment.

    Attributes:
        name: Their name.
        running: Whether a driver works on them now.
        counts: State -> number of trials.
    """

    name: str
    running: bool
    counts: Mapping[str, int]


@dataclass(frozen=True)
class StorageDocument:
    """All results in a folder.

    Attributes:
        document: Which document this is.
        version: Its version.
        root: The folder of all results.
        experiments: The experiments with results, by name.
    """

    document: Literal["storage"]
    version: Literal[1]
    root: str
    experiments: tuple[StoredExperiment, ...]


def status_document(location: ResultLocation) -> StatusDocument:
    """The trials of an experiment.

    Args:
        location: Its results.
    """
    state, alive = location.state, has_live_driver(location.folder)
    header, progress = trial_results.header_of(state), trial_results.progress(state)
    return StatusDocument(
        "status",
        1,
        location.name,
        str(location.folder),
        alive,
        header.metric,
        progress.expected,
        progress.complete,
        _counts(state, alive),
        tuple(_row(trial, alive) for trial in state.plan_trials()),
        header.command,
    )


def storage_document(root: Path) -> StorageDocument:
    """All experiments with results.

    Args:
        root: The folder of all results.
    """
    experiments = []
    for folder in result_folders(root):
        alive = has_live_driver(folder)
        experiments.append(StoredExperiment(folder.name, alive, _counts(load_state(folder), alive)))
    return StorageDocument("storage", 1, str(root), tuple(experiments))


def _counts(state: SweepState, alive: bool) -> dict[str, int]:
    counts: dict[str, int] = {}
    for trial in state.plan_trials():
        word = state_word(trial, alive)
        counts[word] = counts.get(word, 0) + 1
    return counts


def _row(trial: TrialState, alive: bool) -> TrialStatusRow:
    last = trial.failures[-1] if trial.status == "failed" and trial.failures else None
    return TrialStatusRow(
        trial.trial,
        trial.config,
        trial.seed,
        trial.values,
        state_word(trial, alive),
        trial.progress,
        {metric: finite(value) for metric, value in trial.metrics.items()},
        trial.seconds,
        last.failure if last else "",
        last.message if last else "",
    )
