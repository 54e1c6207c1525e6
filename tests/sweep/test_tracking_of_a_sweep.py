"""What MLflow's own client finds after a real sweep: each run once, with its metrics and its place."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.sweep.runs import Workplace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

VALUES = [0.2, 0.4, 0.6]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("tracked"))
    place.scripted(VALUES, seeds=2)
    place.run("sweep", "exp.yaml")
    return place


@pytest.fixture
def runs(swept: Workplace, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A call that returns all living runs of the sweep's MLflow experiment, by role."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=swept.environment()["MLFLOW_TRACKING_URI"])

    def find() -> dict[str, list[Any]]:
        experiment = client.get_experiment_by_name("exp")
        by_role: dict[str, list[Any]] = {}
        for run in client.search_runs([experiment.experiment_id]):
            by_role.setdefault(run.data.tags["expflow.role"], []).append(run)
        return by_role

    return find


def counts(by_role: dict[str, list[Any]]) -> dict[str, int]:
    return {role: len(runs) for role, runs in by_role.items()}


def test_each_run_is_there_once_with_its_metrics(runs: Any) -> None:
    by_role = runs()
    assert counts(by_role) == {"sweep": 1, "config": 3, "trial": 6}
    assert {run.info.status for group in by_role.values() for run in group} == {"FINISHED"}
    trials = {run.info.run_name: run for run in by_role["trial"]}
    assert trials.keys() == {f"value={value} s{seed}" for value in VALUES for seed in (0, 1)}
    assert all("val/top1" in run.data.metrics for run in trials.values())
    assert all(run.data.params["task.value"] == name.split()[0][6:] for name, run in trials.items())
    for run in by_role["config"]:
        assert run.data.metrics["n_seeds"] == 2
        low, mean, high = (run.data.metrics[f"final/val_top1{end}"] for end in ("_low", "", "_high"))
        assert low <= mean <= high


def test_trials_and_configs_lie_under_the_sweep(runs: Any) -> None:
    by_role = runs()
    (sweep,) = by_role["sweep"]
    assert "mlflow.parentRunId" not in sweep.data.tags
    below = [*by_role["config"], *by_role["trial"]]
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {sweep.info.run_id}
    assert Counter(run.data.tags["expflow.config"] for run in by_role["trial"]) == {
        run.data.tags["expflow.config"]: 2 for run in by_role["config"]
    }
    assert sorted(run.data.tags["expflow.seed"] for run in by_role["trial"]) == ["0", "0", "0", "1", "1", "1"]


def test_the_same_command_again_adds_no_run(swept: Workplace, runs: Any) -> None:
    before = {run.info.run_id for group in runs().values() for run in group}
    assert "nothing was left to run" in swept.run("sweep", "exp.yaml")
    by_role = runs()
    assert counts(by_role) == {"sweep": 1, "config": 3, "trial": 6}
    assert {run.info.run_id for group in by_role.values() for run in group} == before
