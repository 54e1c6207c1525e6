"""Sending a job once, however often the call is made or its reply is lost."""

import subprocess
import sys
from pathlib import Path

import pytest
from fakes import FakeClient

from expflow.cluster import sending
from expflow.errors import ServerUnreachable, UserError

ARCHIVE = Path("project.zip")


def start(client, wanted="expflow-x-0badcafe"):
    return sending.start(client, wanted, "python job.py", ARCHIVE, "x")


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
        ("sqlite:///runs/mlflow.db", False),
    ],
)
def test_a_tracking_server_is_passed_on_and_no_secret(monkeypatch, uri, passed):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = FakeClient()
    start(client)
    assert (client.submitted[0]["runtime_env"]["env_vars"].get("MLFLOW_TRACKING_URI") == uri) is passed


def test_the_command_survives_a_shell_with_every_odd_character(tmp_path):
    odd = ["--set", "sweep.space={a: [1, 2]}", "--storage", "/a b/$HOME/'x'\"y\";`z`"]
    (tmp_path / "show.py").write_text("import sys; print('\\n'.join(sys.argv[1:]))")
    command = sending.python_command([str(tmp_path / "show.py"), *odd])
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == odd


def test_another_python_takes_over_where_this_one_is_not(tmp_path, monkeypatch):
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\necho other; exec {sys.executable} "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sending.sys, "executable", str(tmp_path / "not there"))
    done = subprocess.run(sending.python_command(["-c", "print(1)"]), shell=True, capture_output=True, text=True)
    assert done.stdout == "other\n1\n"


def test_the_sweep_command():
    command = sending.sweep_command("experiments/a.yaml", "/runs", ["sweep.seeds=1"])
    assert command.endswith("-m expflow sweep experiments/a.yaml --storage /runs --set sweep.seeds=1")


def test_relative_storage_is_refused(tmp_path):
    with pytest.raises(UserError, match="relative"):
        sending.submit(tmp_path / "a.yaml", name="a", storage="runs")
