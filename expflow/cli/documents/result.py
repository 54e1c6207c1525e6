"""``show --json``: a config with its seeds, or one trial, with its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from expflow.config.identity import recipe_from_identity
from expflow.errors import AddressUnknown
from expflow.intervals import Estimate
from expflow.ledger import TrialState
from expflow.ledger.trial_values import finite, last
from expflow.report import selected_row, trial_results
from expflow.report.bootstrap import ImageInterval
from expflow.report.prediction_statistics import trials_interval
from expflow.sweep.result_location import ResultLocation


@dataclass(frozen=True)
class ShownTrial:
    """A trial of a result.

    Attributes:
        trial: Its id.
        seed: Its seed.
        status: ``done``, ``failed``, ``stopped``, ``running``, ``paused`` or ``waiting``.
        metrics: The last report's metrics.
        seconds: How long its last attempt took.
        folder: Its folder.
        weights: The sha256 of its final weights; empty where it has none.
        artifacts: Name of what it wrote -> the newest file.
    """

    trial: str
    seed: int
    status: str
    metrics: Mapping[str, float | None]
    seconds: float
    folder: str
    weights: str
    artifacts: Mapping[str, str]


@dataclass(frozen=True)
class ResultDocument:
    """A result and its recipe.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: Name of the results.
        kind: ``config`` (the selected one, with all its seeds) or ``trial``.
        config: The config's id.
        values: Searched key -> value.
        metric: What the sweep is judged by.
        value: That metric over the completed seeds; of a trial its own. Selected on it, the first is optimistic.
        over_images: Its 95 % interval over the choice of images; None where no values per image are kept.
        over_both: Its 95 % interval for other seeds and images; None with one seed, too.
        trials: The trials.
        recipe: The whole recipe, as an experiment file has it.
    """

    document: Literal["result"]
    version: Literal[1]
    name: str
    kind: Literal["config", "trial"]
    config: str
    values: Mapping[str, Any]
    metric: str
    value: Estimate | None
    over_images: ImageInterval | None
    over_both: ImageInterval | None
    trials: tuple[ShownTrial, ...]
    recipe: Mapping[str, Any]


def result_document(location: ResultLocation) -> ResultDocument:
    """The result that an address names.

    Args:
        location: The results, and which of them.

    Raises:
        AddressUnknown: There is no selected config yet.
    """
    if location.which not in (None, "best"):
        trial = location.trial()
        metric = trial_results.header_of(location.state).metric
        value = last(trial, metric)
        return _document(location, "trial", [trial], Estimate(value, 1) if value is not None else None)
    row = selected_row(location.state)
    if row is None:
        raise AddressUnknown(f"{location.name} has no trial at full budget yet, hence no best one")
    return _document(location, "config", row.trials, row.estimate)


def _document(
    location: ResultLocation,
    kind: Literal["config", "trial"],
    trials: Sequence[TrialState],
    value: Estimate | None,
) -> ResultDocument:
    folder, state, first = location.folder, location.state, trials[0]
    metric = trial_results.header_of(state).metric
    return ResultDocument(
        "result",
        1,
        location.name,
        kind,
        first.config,
        first.values,
        metric,
        value,
        trials_interval(folder, state, trials, metric),
        trials_interval(folder, state, trials, metric, both=True),
        tuple(_trial(location, trial) for trial in trials),
        recipe_from_identity(first.recipe, first.budget),
    )


def _trial(location: ResultLocation, trial: TrialState) -> ShownTrial:
    artifacts = sorted(trial.artifacts.values(), key=lambda artifact: artifact.step)
    return ShownTrial(
        trial.trial,
        trial.seed,
        trial.status,
        {metric: finite(value) for metric, value in trial.metrics.items()},
        trial.seconds,
        str(location.trial_folder(trial)),
        trial.weights,
        {artifact.name: str(location.folder / artifact.path) for artifact in artifacts},
    )
