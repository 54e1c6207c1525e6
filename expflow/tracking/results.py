"""What trained networks reached, as MLflow has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expflow.data.dataspec import DataSpec
from expflow.tracking.configs import final_metric
from expflow.tracking.store import bounded_environment, connect, refusals_named, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

METRIC = "val/top1"
_PAGE = 1000


@dataclass(frozen=True)
class Trained:
    """A config of one network that was trained to its end, newest first in lists.

    ``model``: its keys as MLflow has them, texts all. ``data_spec``: the images that it was trained on, None where the
    sweep changed its data. ``top1``: the mean over ``seeds`` seeds of the last ``val/top1``, as a share. ``params`` and
    ``macs`` are None where its task brought the network along.
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


def trained(uri: str) -> list[Trained]:
    """All configs in the store at ``uri`` that ended with a top-1; those with one seed only are its trials.

    None where a store of the usual kind does not exist yet. Raises ServerUnreachable where it does not answer.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return []
    with bounded_environment(), refusals_named(uri, "looking for trained networks"):
        client = connect(uri)
        names = {each.experiment_id: each.name for each in client.search_experiments()}
        configs = list(_ended(client, list(names), "config"))
        summed_up = {_config(run) for run in configs}
        trials = [run for run in _ended(client, list(names), "trial") if _config(run) not in summed_up]
    found = [_trained(run, names[run.info.experiment_id], final_metric(METRIC)) for run in configs]
    found += [_trained(run, names[run.info.experiment_id], METRIC) for run in trials]
    return [each for each in found if each is not None]


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


def _trained(run: Run, experiment: str, metric: str) -> Trained | None:
    metrics, params = run.data.metrics, run.data.params
    if metric not in metrics or "model.name" not in params:
        return None
    return Trained(
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
    for each in run.inputs.dataset_inputs if run.inputs else []:
        try:
            return DataSpec.from_json(json.loads(each.dataset.schema or "{}"))
        except (KeyError, TypeError, ValueError):  # of data that somebody else logged, or of another version
            continue
    return None
