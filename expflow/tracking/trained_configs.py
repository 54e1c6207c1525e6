"""What trained networks reached, read from MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expflow.data.dataspec import DataSpec
from expflow.tracking.config_runs import final_metric
from expflow.tracking.store import bounded_environment, connect, errors_as_unreachable, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

METRIC = "val/top1"
_PAGE = 1000


@dataclass(frozen=True)
class TrainedConfig:
    """A config of one network that was trained to its end.

    Attributes:
        experiment: Name of the MLflow experiment.
        run: Id of the MLflow run.
        model: The network's keys as MLflow has them, texts all.
        data: Name of the data set.
        data_spec: The images that it was trained on; None where the sweep changed its data.
        top1: Mean over the seeds of the last ``val/top1``, as a share.
        seeds: Number of seeds.
        params: Number of parameters; None where its task brought the network along.
        macs: Multiply-adds of one image; None where its task brought the network along.
    """

    experiment: str
    run: str
    model: Mapping[str, str]
    data: str
    data_spec: DataSpec | None
    top1: float
    seeds: int
    params: int | None
    macs: int | None


def trained_configs(uri: str) -> list[TrainedConfig]:
    """All configs in a store that ended with a top-1; those with one seed only are its trials. Newest first.

    Empty where a store of the usual kind does not exist yet.

    Args:
        uri: The address of the MLflow store.

    Raises:
        ServerUnreachable: The store does not answer.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return []
    with bounded_environment(), errors_as_unreachable(uri, "looking for trained networks"):
        client = connect(uri)
        names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
        configs = list(_ended(client, list(names), "config"))
        summed_up = {_config(run) for run in configs}
        trials = [run for run in _ended(client, list(names), "trial") if _config(run) not in summed_up]
    candidates = [_trained(run, names[run.info.experiment_id], final_metric(METRIC)) for run in configs]
    candidates += [_trained(run, names[run.info.experiment_id], METRIC) for run in trials]
    return [config for config in candidates if config is not None]


def _ended(client: MlflowClient, experiments: list[str], role: str) -> Iterator[Run]:
    condition = f"tags.`expflow.role` = '{role}' and tags.`expflow.state` = 'done'"
    token = None
    while experiments:
        page = client.search_runs(
            experiments, condition, max_results=_PAGE, order_by=["attributes.start_time DESC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _config(run: Run) -> tuple[str | None, str | None]:
    return run.data.tags.get("expflow.sweep"), run.data.tags.get("expflow.config")


def _trained(run: Run, experiment: str, metric: str) -> TrainedConfig | None:
    metrics, params = run.data.metrics, run.data.params
    if metric not in metrics or "model.name" not in params:
        return None
    return TrainedConfig(
        experiment=experiment,
        run=run.info.run_id,
        model={key.removeprefix("model."): text for key, text in params.items() if key.startswith("model.")},
        data=params.get("data.name", "data"),
        data_spec=_data_spec(run),
        top1=metrics[metric],
        seeds=int(metrics.get("n_seeds", 1)),
        params=_whole(metrics.get("cost/params")),
        macs=_whole(metrics.get("cost/macs")),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _data_spec(run: Run) -> DataSpec | None:
    for entry in run.inputs.dataset_inputs if run.inputs else []:
        try:
            return DataSpec.from_json(json.loads(entry.dataset.schema or "{}"))
        except (KeyError, TypeError, ValueError):  # of data that somebody else logged, or of another version
            continue
    return None
