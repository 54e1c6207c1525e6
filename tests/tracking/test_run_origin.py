"""``mlflow:RUN_ID``: a run in MLflow leads to the results that it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from expflow import cli
from expflow.errors import AddressUnknown
from expflow.tracking.run_origin import RunOrigin, run_origin
from tests.tracking.stories import trial_id
from tests.tracking.test_trained_configs import sweep_of_resnets, tell


@pytest.fixture
def told(tmp_path: Path, uri: str) -> None:
    tell(tmp_path / "depth", uri, sweep_of_resnets((20, 56), (0, 1, 2)))


def compared(capsys: pytest.CaptureFixture[str], storage: Path, *addresses: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as left:
        cli.main(["report", *addresses, "--storage", str(storage), "--json"])
    assert left.value.code == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.usefixtures("told")
def test_runs_of_configs_trials_and_sweeps_are_compared(
    tmp_path: Path, runs: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [f"mlflow:{run.info.run_id}" for run in runs("config").values()]
    trial = next(run for run in runs("trial").values() if run.data.tags["expflow.trial"] == trial_id(56, 1))
    (sweep,) = runs("sweep").values()
    answer = compared(capsys, tmp_path, *configs, f"mlflow:{trial.info.run_id}", f"mlflow:{sweep.info.run_id}")
    one, other, single, selected = answer["results"]
    assert one["config"] != other["config"]
    assert (one["seeds"], other["seeds"], single["seeds"]) == ([0, 1, 2], [0, 1, 2], [1])
    assert single["metrics"]["val/top1"]["mean"] == pytest.approx(0.91)
    assert selected["seeds"] == [0, 1, 2]
    assert one["label"] != other["label"]


@pytest.mark.usefixtures("told")
def test_a_run_says_what_it_was_made_of(uri: str, client: Any, runs: Callable[..., dict[str, Any]]) -> None:
    run = next(iter(runs("trial").values()))
    tags = run.data.tags
    assert run_origin(uri, run.info.run_id) == RunOrigin("depth", tags["expflow.trial"], tags["expflow.config"])
    with pytest.raises(AddressUnknown, match="mlflow:0000: there is no such run"):
        run_origin(uri, "0000")
    stranger = client.create_run(client.create_experiment("theirs")).info.run_id
    with pytest.raises(AddressUnknown, match="is no run of expflow's"):
        run_origin(uri, stranger)
