"""A real MLflow store for each test, made once and copied, since MLflow needs a second to make one."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.server_stack import ServerStack, running_stack


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own client reports to nobody either."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from expflow.tracking.store import bounded_environment, connect

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with bounded_environment():
        connect(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def runs(client: Any) -> Callable[..., dict[str, Any]]:
    """All living runs of the experiment ``depth`` by name; fails where two share one."""

    def find(role: str | None = None) -> dict[str, Any]:
        experiment = client.get_experiment_by_name("depth")
        condition = f"tags.`expflow.role` = '{role}'" if role else ""
        runs = client.search_runs([experiment.experiment_id], condition)
        named = {run.info.run_name: run for run in runs}
        assert len(named) == len(runs), "a run is there twice"
        return named

    return find


@pytest.fixture(scope="session")
def stack() -> Iterator[ServerStack]:
    """One stack of servers for all tests that need one; each test has an experiment of its own."""
    with running_stack() as running:
        yield running
