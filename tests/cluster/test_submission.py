"""Sending a job once, however often the call is made or its reply is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from expflow.cluster import ray_launcher
from expflow.cluster.launcher import SweepRequest
from expflow.cluster.ray_launcher import RayLauncher
from expflow.cluster.specs import RayLauncherSpec
from expflow.cluster.submission import sweep_arguments
from expflow.errors import ServerUnreachable, UserError
from tests.cluster.fakes import FakeClient

ARCHIVE = Path("project.zip")


def start(client, wanted="expflow-x-0badcafe"):
    return ray_launcher.start_job(client, wanted, "python job.py", ARCHIVE)


@pytest.fixture
def client(monkeypatch):
    """A head that the launcher of every test talks to."""
    there = FakeClient()
    monkeypatch.setattr(ray_launcher, "connect", lambda address: there)
    return there


def submit(file, storage="/shared", sets=()):
    launcher = RayLauncher(RayLauncherSpec(address="http://fake:8265"))
    (submission,) = launcher.submit([SweepRequest(file, "x", storage, sets)])
    return submission


def test_a_new_job():
    client = FakeClient()
    assert start(client) == ("expflow-x-0badcafe", False)
    request = client.submitted[0]
    assert request["submission_id"] == "expflow-x-0badcafe"
    assert request["runtime_env"]["working_dir"] == "project.zip"
    assert request["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "60"}


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_the_same_job_is_not_started_beside_itself(status):
    client = FakeClient(expflow_x_0badcafe=status)
    assert start(client) == ("expflow-x-0badcafe", True)
    assert not client.submitted


def test_a_job_that_is_over_is_continued_under_a_number():
    client = FakeClient(expflow_x_0badcafe="FAILED", expflow_x_0badcafe_2="STOPPED")
    assert start(client) == ("expflow-x-0badcafe-3", False)


def test_a_lost_reply_is_not_a_second_job():
    client = FakeClient()

    def arrive_and_break():
        client.add("expflow-x-0badcafe", "RUNNING")
        raise ConnectionError("reply lost")

    client.on_submit = arrive_and_break
    assert start(client) == ("expflow-x-0badcafe", True)


def test_a_job_that_did_not_arrive_is_an_error_with_the_last_line_said():
    client = FakeClient()

    def refuse():
        raise RuntimeError("Traceback\n  somewhere\nNo available agent to submit job")

    client.on_submit = refuse
    with pytest.raises(ServerUnreachable, match="did not take the job: No available agent"):
        start(client)


@pytest.mark.parametrize(
    ("uri", "passed"),
    [
        ("http://tracking:5000", True),
        ("http://user:secret@tracking:5000", False),
        ("http://TOKEN@tracking:5000", False),
        ("http://tracking:5000?token=abc", False),
        ("http://tracking:5000/?x=1", False),
        ("sqlite:///runs/mlflow.db", False),
    ],
)
def test_a_tracking_server_is_passed_on_and_no_secret(monkeypatch, tmp_path, client, uri, passed):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "x.yaml").write_text("task: scripted")
    submit(tmp_path / "x.yaml")
    assert (client.submitted[0]["runtime_env"]["env_vars"].get("MLFLOW_TRACKING_URI") == uri) is passed


def test_the_command_survives_a_shell_with_every_odd_character(tmp_path):
    odd = ["--set", "sweep.space={a: [1, 2]}", "--storage", "/a b/$HOME/'x'\"y\";`z`"]
    (tmp_path / "show.py").write_text("import sys; print('\\n'.join(sys.argv[1:]))")
    command = ray_launcher.python_command([str(tmp_path / "show.py"), *odd])
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == odd


def test_another_python_takes_over_where_this_one_is_not(tmp_path, monkeypatch):
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\necho other; exec {sys.executable} "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(ray_launcher.sys, "executable", str(tmp_path / "not there"))
    done = subprocess.run(ray_launcher.python_command(["-c", "print(1)"]), shell=True, capture_output=True, text=True)
    assert done.stdout == "other\n1\n"


def test_the_sweep_command():
    command = ray_launcher.python_command(sweep_arguments("experiments/a.yaml", "/runs", ["sweep.seeds=1"]))
    assert command.endswith("-m expflow sweep experiments/a.yaml --storage /runs --set sweep.seeds=1")


def test_relative_storage_is_refused(tmp_path, client):
    with pytest.raises(UserError, match="relative"):
        submit(tmp_path / "a.yaml", storage="runs")


@pytest.mark.parametrize(
    ("storage", "sets"),
    [
        ("/shared", ["data.path=https://h/x?sig=abcdef"]),
        ("/shared", ["model.password=hunter2"]),
        ("/shared", ["data.path=https://h/x?k=abcdef"]),
        ("s3://me:abcdef@bucket/x", []),
    ],
)
def test_a_secret_in_the_jobs_command_is_refused(tmp_path, client, storage, sets):
    (tmp_path / "x.yaml").write_text("task: scripted")
    with pytest.raises(UserError, match="holds a secret, and everybody who may list") as caught:
        submit(tmp_path / "x.yaml", storage, sets)
    assert "abcdef" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_what_was_not_sent_is_told(tmp_path, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://TOKEN99@tracking:5000")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "x.yaml").write_text("task: scripted")
    (tmp_path / "project" / "far.txt").symlink_to(tmp_path / "far.txt")
    (tmp_path / "far.txt").write_text("x")
    result = submit(tmp_path / "project" / "x.yaml")
    links, tracking = result.withheld
    assert links.startswith("not sent: far.txt")
    assert "MLFLOW_TRACKING_URI=http://tracking:5000" in tracking
    assert "TOKEN99" not in tracking
