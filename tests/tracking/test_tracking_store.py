"""Which MLflow store is used, and how a file of our own is made."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from expflow.tracking import public_uri, resolve_uri
from expflow.tracking.store import artifact_location, bounded_environment, connect, sqlite_path


def test_the_users_choice_comes_first(tmp_path: Path) -> None:
    environ = {"MLFLOW_TRACKING_URI": "http://tracking:5000"}
    assert resolve_uri(tmp_path, environ=environ, site="http://site") == "http://tracking:5000"
    assert resolve_uri(tmp_path, environ={}, site="http://site") == "http://site"
    assert resolve_uri(tmp_path, environ={}) == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_relative_storage_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(Path("runs"), environ={}) == f"sqlite:///{tmp_path}/runs/mlflow.db"


@pytest.mark.parametrize("name", ["with space", "50%25", "what?", "#1", "größe"])
def test_any_folder_name_works(tmp_path: Path, name: str) -> None:
    uri = resolve_uri(tmp_path / name, environ={})
    with bounded_environment():
        client = connect(uri)
    location = artifact_location(uri, tmp_path / name / "depth")
    experiment = client.create_experiment("depth", artifact_location=location)
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "text", "note.txt")
    assert sqlite_path(uri) == tmp_path / name / "mlflow.db"
    assert (tmp_path / name / "mlflow.db").exists()
    assert (tmp_path / name / "mlartifacts" / "depth" / run.info.run_id / "artifacts" / "note.txt").exists()


def test_artifacts_of_a_server_are_its_own_affair(tmp_path: Path) -> None:
    assert artifact_location("http://tracking:5000", tmp_path / "depth") is None
    assert artifact_location("postgresql://host/db", tmp_path / "depth") == (tmp_path / "mlartifacts/depth").as_uri()


def test_passwords_are_not_shown() -> None:
    assert public_uri("https://me:secret@tracking:5000/x") == "https://tracking:5000/x"
    assert public_uri("sqlite:////runs/mlflow.db") == "sqlite:////runs/mlflow.db"


def test_the_environment_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with bounded_environment():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "99", "the user knows better"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_importing_the_package_does_not_import_mlflow() -> None:
    code = "import sys, expflow.tracking; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_two_processes_make_one_store(tmp_path: Path) -> None:
    code = "import sys; from expflow.tracking.store import connect; connect(sys.argv[1]).create_experiment(sys.argv[2])"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    both = [subprocess.Popen([sys.executable, "-c", code, uri, name]) for name in ("one", "two")]
    assert [process.wait() for process in both] == [0, 0]
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert {row[0] for row in connection.execute("select name from experiments")} == {"Default", "one", "two"}
