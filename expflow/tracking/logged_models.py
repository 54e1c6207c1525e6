"""Exported models as MLflow's logged models, so that logging one again changes nothing.

A model is found by its tags before it is created, and counts as logged once it is ready: what an upload that was cut
short has left is completed the next time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.redaction import redacted
from expflow.tracking.exported_models import ExportedModel

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

TAG = "expflow.model"
"""The tag of a trial's run that says what became of its model."""

_MODEL_KEY = "expflow.key"
_MEASURED_ON = ("val/", "test/")
"""Beginnings of the metrics that are also the model's."""


def find_model(client: MlflowClient, experiment: str, sweep: str, export: ExportedModel) -> LoggedModel | None:
    """The logged model of an export; None where there is none.

    Args:
        client: The store's client.
        experiment: Id of the MLflow experiment.
        sweep: What distinguishes the sweep in the store.
        export: The export.
    """
    condition = f"tags.`{_MODEL_KEY}` = '{_model_key(sweep, export)}'"
    models = client.search_logged_models([experiment], condition)
    return min(models, key=lambda model: model.creation_timestamp, default=None)


def log_model(client: MlflowClient, run: str, sweep: str, export: ExportedModel, files: Path) -> str:
    """Log a model with its trial's run. Raises what MLflow raises when it cannot be reached.

    Args:
        client: The store's client.
        run: Id of the trial's run.
        sweep: What distinguishes the sweep in the store.
        export: The export.
        files: The model's folder.

    Returns:
        The model's id in MLflow.
    """
    source = client.get_run(run)
    experiment = source.info.experiment_id
    model = find_model(client, experiment, sweep, export)
    if model is None:
        model = client.create_logged_model(
            experiment,
            name=_model_name(export.label),
            source_run_id=run,
            tags=_model_tags(sweep, export),
            params=dict(source.data.params),
        )
    if str(model.status) != "READY":
        _complete(client, source, model, files)
    return str(model.model_id)


def _complete(client: MlflowClient, source: Any, model: LoggedModel, files: Path) -> None:
    from mlflow.entities import LoggedModelOutput

    run = source.info.run_id
    client.log_model_artifacts(model.model_id, str(files))
    _upload_description(client, model, run, files)
    outputs = source.outputs.model_outputs if source.outputs is not None else []
    if model.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    measured = [name for name in source.data.metrics if name.startswith(_MEASURED_ON)]
    metrics = [point for name in measured for point in _last(client, run, name, model)]
    if metrics:
        client.log_batch(run, metrics=metrics)
    client.finalize_logged_model(model.model_id, "READY")


def _upload_description(client: MlflowClient, model: LoggedModel, run: str, files: Path) -> None:
    """Upload the file MLmodel once more, with the ids that it has in this store."""
    from mlflow.models import Model

    description = Model.load(str(files))
    description.model_id, description.run_id = model.model_id, run
    description.artifact_path = model.artifact_location
    with tempfile.TemporaryDirectory(prefix="expflow-model-") as folder:
        path = Path(folder) / "MLmodel"
        description.save(str(path))
        client.log_model_artifact(model.model_id, str(path))


def _last(client: MlflowClient, run: str, name: str, model: LoggedModel) -> list[Any]:
    """A metric's last point once more, as the model's: the run, which has it already, gets no second one."""
    from mlflow.entities import Metric

    history = client.get_metric_history(run, name)
    if not history:
        return []
    last = max(history, key=lambda point: (point.step, point.timestamp))
    return [Metric(last.key, last.value, last.timestamp, last.step, model_id=model.model_id, run_id=run)]


def _model_key(sweep: str, export: ExportedModel) -> str:
    return f"model:{sweep}:{export.trial}:{export.weights[:16]}"


def _model_tags(sweep: str, export: ExportedModel) -> dict[str, str]:
    return {
        _MODEL_KEY: _model_key(sweep, export),
        "expflow.sweep": sweep,
        "expflow.trial": export.trial,
        "expflow.config": export.config,
        "expflow.weights": export.weights,
        "expflow.exported_by": export.made_by,
    }


def _model_name(label: str) -> str:
    """A config in words, without what MLflow allows in no model's name."""
    return "".join("_" if letter in "/:.%\"'" else letter for letter in redacted(label)) or "model"
