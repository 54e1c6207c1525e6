"""What a store holds of an experiment, in a form in which two stores can be compared."""

from __future__ import annotations

import re
from typing import Any

from mlflow import MlflowClient


def history(client: MlflowClient, run: Any, metric: str) -> list[tuple[int, float]]:
    """The points of a metric, (step, value), in the order in which the store gives them."""
    return [(point.step, round(point.value, 6)) for point in client.get_metric_history(run.info.run_id, metric)]


def everything(uri: str, experiment: str = "depth", curves: str = "") -> dict[str, tuple[Any, ...]]:
    """All that a store says of an experiment's runs, but for the ids that it made up: status, times, parameters, tags,
    last values, points, data sets, files. Fails where two runs share a name.

    Args:
        uri: The store's address.
        experiment: MLflow's name of the experiment.
        curves: A pattern of the metrics whose points are read, since a server is asked for each metric of each run.
    """
    client = MlflowClient(tracking_uri=uri)
    runs: dict[str, tuple[Any, ...]] = {}
    for run in client.search_runs([client.get_experiment_by_name(experiment).experiment_id]):
        name = f"{run.data.tags['expflow.role']} {run.info.run_name}"
        assert name not in runs, "a run is there twice"
        last = {metric: repr(value) for metric, value in run.data.metrics.items()}  # as text, so that nan equals nan
        points = {metric: sorted(history(client, run, metric)) for metric in last if re.search(curves, metric)}
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
        described = (run.info.status, run.info.start_time, run.data.params, tags)
        runs[name] = (*described, last, points, len(run.inputs.dataset_inputs), files_of(client, run.info.run_id))
    return runs


def files_of(client: MlflowClient, run: str, folder: str | None = None) -> dict[str, int]:
    """The files of a run: path -> bytes."""
    sizes: dict[str, int] = {}
    for entry in client.list_artifacts(run, folder):
        if entry.is_dir:
            sizes |= files_of(client, run, entry.path)
        else:
            sizes[entry.path] = entry.file_size
    return sizes
