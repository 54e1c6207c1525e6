"""Tells MLflow the news, so that telling the same news twice changes nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from expflow.ledger import Header
from expflow.tracking.mirror import dataset
from expflow.tracking.naming import safe_key, text
from expflow.tracking.pending import SWEEP, Pending, Point, RunSpec, Update
from expflow.tracking.store import artifact_location, connect

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_METRICS_PER_CALL = 1000  # MLflow's limits of one log_batch
_PARAMETERS_PER_CALL = 100
_RUNS_PER_PAGE = 200
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"})


class Writer:
    """Writes one sweep's runs to one MLflow store.

    Runs are looked up by their tags when the connection is made, and created only when they are not there. A run that
    the user deleted stays deleted. After any error :meth:`disconnect` makes it look again.
    """

    def __init__(self, uri: str, folder: Path) -> None:
        self._uri, self._folder = uri, folder
        self._client: Any = None
        self._experiment = ""
        self._sweep = ""
        self._runs: dict[str, str | None] = {}
        """Key -> run id; None for a run that was deleted."""

    def open(self, name: str, sweep_id: str) -> None:
        """Connect, and find what is there. Nothing happens while a connection is open. Raises what MLflow raises."""
        if self._client is None:
            client = connect(self._uri)
            self._experiment = _experiment(client, name, artifact_location(self._uri, self._folder))
            self._sweep, self._runs = sweep_id, {}
            for run in _found(client, self._experiment, sweep_id):
                self._remember(client, run)
            self._client = client

    def disconnect(self) -> None:
        """Forget the connection and what was found through it."""
        self._client = None

    @property
    def knows_sweep(self) -> bool:
        """Whether the store has (or had) this sweep. False means that nothing of it was ever told there."""
        return SWEEP in self._runs

    def write(self, pending: Pending, spec: Callable[[str], RunSpec], header: Header) -> None:
        """Tell all the news. Raises what MLflow raises when it cannot be reached; then all may be told again."""
        for key, update in pending:
            if update.retired:
                self._retire(key)
                continue
            created = key not in self._runs
            if created or update.fresh:
                self._create(key, spec(key), header)
            run = self._runs[key]
            if run is not None:
                self._tell(run, update, created)

    def upload(self, paths: Iterable[Path], key: str = SWEEP) -> None:
        """Attach files and folders to the run ``key``, by default the sweep's, replacing those of the same name."""
        run = self._runs.get(key)
        for path in paths if run is not None else ():
            if path.is_dir():
                self._client.log_artifacts(run, str(path), path.name)
            else:
                self._client.log_artifact(run, str(path))

    def _remember(self, client: Any, run: Any) -> None:
        key, alive = run.data.tags.get("expflow.key", ""), run.info.lifecycle_stage == "active"
        if self._runs.get(key) is None:
            self._runs[key] = run.info.run_id if alive else None
        elif alive:  # a server that answered too late had made it twice; only the first was written to
            client.delete_run(run.info.run_id)

    def _create(self, key: str, spec: RunSpec, header: Header) -> None:
        """Make the run unless it is there; then give it what it may have missed if the last time was cut short."""
        if key not in self._runs:
            tags = dict(spec.tags)
            parent = self._runs.get(SWEEP)
            if parent is not None:
                tags["mlflow.parentRunId"] = parent
            start = round(spec.started_at * 1000)
            run = self._client.create_run(self._experiment, start_time=start, tags=tags, run_name=spec.name)
            self._runs[key] = run.info.run_id
        run_id = self._runs[key]
        if run_id is not None:
            for chunk in _chunks(list(spec.parameters.items()), _PARAMETERS_PER_CALL):
                _unless_refused(self._client.log_batch, run_id, params=_params(dict(chunk)))
            if spec.with_data and (facts := dataset(header)) is not None:
                _unless_refused(self._client.log_inputs, run_id, [_input(facts)])

    def _tell(self, run: str, update: Update, created: bool) -> None:
        tags = _tags(update.tags)
        for chunk in _chunks(update.points, _METRICS_PER_CALL - len(tags)) if update.points else [[]]:
            if chunk or tags:
                _unless_refused(self._client.log_batch, run, metrics=_metrics(chunk), tags=tags)
                tags = []
        if update.status == "RUNNING":
            if not created:  # a new run is running
                _unless_refused(self._client.update_run, run, status="RUNNING")
        elif update.status is not None:
            end = round(update.status_at * 1000)
            _unless_refused(self._client.set_terminated, run, update.status, end)

    def _retire(self, key: str) -> None:
        run = self._runs.get(key)
        if run is not None:
            _unless_refused(self._client.delete_run, run)
        self._runs[key] = None


def _experiment(client: Any, name: str, location: str | None) -> str:
    """The id of the MLflow experiment ``name``, made or brought back where needed."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # somebody else was quicker
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _found(client: Any, experiment: str, sweep_id: str) -> Iterator[Any]:
    """All runs of the sweep, deleted ones too, oldest first."""
    from mlflow.entities import ViewType

    token = None
    while True:
        page = client.search_runs(
            [experiment],
            f"tags.`expflow.sweep` = '{sweep_id}'",
            ViewType.ALL,
            _RUNS_PER_PAGE,
            ["attributes.start_time ASC"],
            token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _unless_refused(call: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """Make a call; what the store refuses for good is noted in the log and left out, for it would never succeed."""
    from mlflow.exceptions import MlflowException

    try:
        call(*arguments, **named)
    except MlflowException as error:
        if error.error_code not in _REFUSALS:
            raise
        _log.warning("MLflow refused, left out: %s", error)


def _params(parameters: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(safe_key(key), text(value)) for key, value in parameters.items()]


def _tags(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in tags.items()]


def _metrics(points: Sequence[Point]) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(safe_key(point.metric), _number(point.value), round(point.at * 1000), point.step) for point in points
    ]


def _number(value: float) -> float:
    """Infinities as the largest numbers, as MLflow's own store keeps them; not every server takes them as they are."""
    return math.copysign(1.7976931348623157e308, value) if math.isinf(value) else value


def _input(facts: Mapping[str, str]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = Dataset(facts["name"], facts["digest"], "expflow", facts["source"], facts["schema"], facts["profile"])
    return DatasetInput(data, [InputTag("mlflow.data.context", "training")])


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
