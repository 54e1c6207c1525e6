"""Writes updates to MLflow, so that writing the same update twice changes nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from expflow.ledger import Header
from expflow.tracking import notes
from expflow.tracking.call_deadline import CALL_SECONDS
from expflow.tracking.exported_models import ExportedModel
from expflow.tracking.ledger_translator import dataset
from expflow.tracking.logged_models import TAG, log_model
from expflow.tracking.naming import as_text, safe_key
from expflow.tracking.parallel_calls import ParallelCalls, Task
from expflow.tracking.pending_updates import SWEEP, MetricPoint, PendingUpdates, Role, RunSpec, RunUpdate
from expflow.tracking.server_batches import ServerBatches
from expflow.tracking.store import artifact_location, connect, is_server

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_ITEMS_PER_CALL = 1000  # MLflow's limits of one log_batch
_PARAMETERS_PER_CALL = 100
_RUNS_PER_PAGE = 200
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"})


class RunWriter:
    """Writes one sweep's runs to one MLflow store.

    Runs are looked up by their tags when the connection is made, and created only when they are not there. A run that
    the user deleted stays deleted. After any error :meth:`disconnect` makes it look again.

    Args:
        uri: The address of the MLflow store.
        folder: The experiment's folder.
        call_seconds: Gives how long the next call may take.
    """

    def __init__(self, uri: str, folder: Path, call_seconds: Callable[[], float] = lambda: CALL_SECONDS) -> None:
        self._uri, self._folder, self._call_seconds = uri, folder, call_seconds
        self._client: Any = None
        self._experiment = ""
        self._sweep = ""
        self._tags: dict[str, str] = {}
        """Those of the MLflow experiment."""
        self._runs: dict[str, str | None] = {}
        """Key -> run id; None for a run that was deleted."""

    def open(self, name: str, sweep_id: str) -> None:
        """Connect, and look up the sweep's runs. Nothing happens while a connection is open. Raises what MLflow raises.

        Args:
            name: The experiment's name.
            sweep_id: What distinguishes the sweep in the store.
        """
        if self._client is None:
            client = connect(self._uri, self._call_seconds)
            self._experiment, self._tags = _experiment(client, name, artifact_location(self._uri, self._folder))
            self._sweep, self._runs = sweep_id, {}
            for run in _existing_runs(client, self._experiment, sweep_id):
                self._remember(client, run)
            self._client = client

    def disconnect(self) -> None:
        """Forget the connection and the runs that were looked up through it."""
        self._client = None

    @property
    def knows_sweep(self) -> bool:
        """Whether the store has (or had) this sweep. False means that nothing of it was ever written there."""
        return SWEEP in self._runs

    def write(self, pending: PendingUpdates, spec: Callable[[str], RunSpec], header: Header) -> None:
        """Write all updates. Raises what MLflow raises when it cannot be reached; then all may be written again.

        Args:
            pending: The updates by run.
            spec: Gives what the run of a key is to be created with.
            header: The newest driver's header.
        """
        created = set[str]()
        parameters: dict[str, Mapping[str, Any]] = {}
        for key, update in pending:
            if update.retired:
                self._retire(key)
                continue
            if key not in self._runs:
                created.add(key)
                if not update.fresh:  # it was written once, and the server has not kept it
                    _log.warning("%s was removed for good from the store, and stays away", key)
                    self._runs[key] = None
            if update.fresh:
                wanted = spec(key)
                self._create(key, wanted, header)
                parameters[key] = wanted.parameters
        there = [(run, key, update) for key, update in pending if (run := self._runs.get(key)) is not None]
        self._log_all([(run, update, parameters.get(key, {})) for run, key, update in there])
        for run, key, update in there:  # a run that is shown as finished has all
            self._attach(run, update.files)
            self._set_status(run, update, created=key in created)

    def _log_all(self, updates: Sequence[tuple[str, RunUpdate, Mapping[str, Any]]]) -> None:
        """Write points, parameters and tags; to a server those of several runs at once."""
        if not is_server(self._uri):
            for run, update, parameters in updates:
                self._log_run(run, update, parameters, lambda: None)
            return

        def task(run: str, update: RunUpdate, parameters: Mapping[str, Any]) -> Task:
            return lambda after_call: self._log_run(run, update, parameters, after_call)

        ParallelCalls(self._call_seconds).run([task(*update) for update in updates])

    def upload(self, paths: Iterable[Path], key: str = SWEEP, *, to: str | None = None) -> None:
        """Attach files and folders to a run, replacing those of the same name.

        Args:
            paths: The files and folders.
            key: The run's key; by default the sweep's.
            to: The folder among the run's artifacts that files get into; by default the topmost.
        """
        run = self._runs.get(key)
        for path in paths if run is not None else ():
            if path.is_dir():
                self._client.log_artifacts(run, str(path), path.name)
            else:
                self._client.log_artifact(run, str(path), to)

    def tag(self, tags: Mapping[str, str], key: str = SWEEP) -> None:
        """Set tags of a run.

        Args:
            tags: Tag -> value.
            key: The run's key; by default the sweep's.
        """
        run = self._runs.get(key)
        if run is not None and tags:
            _unless_refused(self._client.log_batch, run, tags=_tags(tags))

    def tag_experiment(self, name: str, value: str) -> None:
        """Set a tag of the MLflow experiment, where it has another value.

        Args:
            name: The tag.
            value: Its value.
        """
        if self._tags.get(name) != value:
            _unless_refused(self._client.set_experiment_tag, self._experiment, name, value)
            self._tags[name] = value

    def describe_experiment(self, note: str) -> None:
        """Set the experiment's description, unless somebody has written another one there.

        Args:
            note: The description, as Markdown.
        """
        there = self._tags.get(notes.TAG, "")
        if note and (not there or notes.digest(there) == self._tags.get(notes.DIGEST_TAG)):
            self.tag_experiment(notes.TAG, note)
            self.tag_experiment(notes.DIGEST_TAG, notes.digest(note))

    def describe_run(self, key: str, note: str) -> None:
        """Set a run's description, unless somebody has written another one there.

        Args:
            key: The run's key.
            note: The description, as Markdown.
        """
        run = self._runs.get(key)
        if run is None or not note:
            return
        tags = self._client.get_run(run).data.tags
        if not (there := tags.get(notes.TAG, "")) or notes.digest(there) == tags.get(notes.DIGEST_TAG):
            self.tag({notes.TAG: note, notes.DIGEST_TAG: notes.digest(note)}, key)

    def keys(self, role: Role) -> list[str]:
        """The keys of the runs of a role that are there.

        Args:
            role: The role.
        """
        return [key for key, run in self._runs.items() if run is not None and key.partition(":")[0] == role]

    def log_model(self, export: ExportedModel, files: Path) -> None:
        """Log an exported model with its trial's run, or say there why there is none; nothing where the run is gone.

        Args:
            export: What came of the export.
            files: The model's folder.
        """
        key = f"trial:{export.trial}"
        run = self._runs.get(key)
        if run is None:
            return
        reason = export.reason or ("" if files.is_dir() else f"{files} is gone")
        outcome = f"not exported: {reason}" if reason else log_model(self._client, run, self._sweep, export, files)
        self.tag({TAG: as_text(outcome)}, key)

    def _remember(self, client: Any, run: Any) -> None:
        key, alive = run.data.tags.get("expflow.key", ""), run.info.lifecycle_stage == "active"
        if self._runs.get(key) is None:
            self._runs[key] = run.info.run_id if alive else None
        elif alive:  # a server that answered too late had made it twice; only the first was written to
            client.delete_run(run.info.run_id)

    def _create(self, key: str, spec: RunSpec, header: Header) -> None:
        """Make the run unless it is there, and give it its data, which it may have missed if the last time was cut
        short."""
        if key not in self._runs:
            tags = dict(spec.tags)
            parent = self._runs.get(SWEEP)
            if parent is not None:
                tags["mlflow.parentRunId"] = parent
            start = round(spec.started_at * 1000)
            run = self._client.create_run(self._experiment, start_time=start, tags=tags, run_name=spec.name)
            self._runs[key] = run.info.run_id
        run_id = self._runs[key]
        if run_id is not None and spec.with_data and (facts := dataset(header)) is not None:
            _unless_refused(self._client.log_inputs, run_id, [_input(facts)])

    def _log_run(
        self, run: str, update: RunUpdate, parameters: Mapping[str, Any], after_call: Callable[[], None]
    ) -> None:
        client = ServerBatches(self._uri) if is_server(self._uri) else self._client
        params, tags = _chunks(_params(parameters), _PARAMETERS_PER_CALL), _tags(update.tags)
        points = iter(update.points)
        while True:  # each call takes as much of everything as MLflow allows
            some = list(next(params, ()))
            metrics = _metrics(islice(points, _ITEMS_PER_CALL - len(some) - len(tags)))
            if not (some or metrics or tags):
                break
            _log_batch(client, run, metrics, some, tags)
            tags = []
            after_call()

    def _set_status(self, run: str, update: RunUpdate, *, created: bool) -> None:
        if update.status == "RUNNING":
            if not created:  # a new run is running
                _unless_refused(self._client.update_run, run, status="RUNNING")
        elif update.status is not None:
            end = round(update.status_at * 1000)
            _unless_refused(self._client.set_terminated, run, update.status, end)

    def _attach(self, run: str, files: Mapping[str, str]) -> None:
        """Attach files to a run. The same file again replaces itself, so a repetition after a kill changes nothing."""
        for path, folder in files.items():
            file = self._folder / path
            if file.is_file():
                _unless_refused(self._client.log_artifact, run, str(file), folder)
            else:  # somebody removed it since; there is nothing left to attach
                _log.warning("%s is gone, and not attached", file)

    def _retire(self, key: str) -> None:
        run = self._runs.get(key)
        if run is not None:
            _unless_refused(self._client.delete_run, run)
        self._runs[key] = None


def _experiment(client: Any, name: str, location: str | None) -> tuple[str, dict[str, str]]:
    """Id and tags of the MLflow experiment ``name``, made or brought back where needed."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=location)), {}
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # somebody else was quicker
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id), dict(experiment.tags)


def _existing_runs(client: Any, experiment: str, sweep_id: str) -> Iterator[Any]:
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


def _log_batch(client: Any, run: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
    """Write metrics, parameters and tags in one call; each kind alone where the store refuses them together, so that
    one bad parameter takes no metric with it."""
    from mlflow.exceptions import MlflowException

    try:
        client.log_batch(run, metrics, params, tags)
    except MlflowException as error:
        if not _is_refusal(error):
            raise
        for part in ({"params": params}, {"tags": tags}, {"metrics": metrics}):
            if any(part.values()):
                _unless_refused(client.log_batch, run, **part)


def _unless_refused(call: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """Make a call; what the store refuses for good is noted in the log and left out, for it would never succeed."""
    from mlflow.exceptions import MlflowException

    try:
        call(*arguments, **named)
    except MlflowException as error:
        if not _is_refusal(error):
            raise
        _log.warning("MLflow refused, left out: %s", error)


def _is_refusal(error: Any) -> bool:
    """Whether MLflow itself refuses a call for good. A status without MLflow's own words comes from what stands between
    it and us, a proxy in front of a server that is away: that passes."""
    return error.error_code in _REFUSALS and "failed with error code" not in error.message


def _params(parameters: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(safe_key(key), as_text(value)) for key, value in parameters.items()]


def _tags(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in tags.items()]


def _metrics(points: Iterable[MetricPoint]) -> list[Any]:
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
