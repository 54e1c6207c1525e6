"""submit, stop and a job's logs, as typed; the cluster itself is tested in tests/cluster."""

from pathlib import Path

import pytest

from expflow import cli
from expflow.cli.views import cluster as views
from expflow.cluster.launcher import ClusterJob, Submission, SweepRequest
from expflow.cluster.ray_launcher import RayLauncher
from expflow.errors import ServerUnreachable

ADDRESS = "http://head:8265"
JOB = "expflow-tiny-0badcafe"

FILE = """
data: digits
model: linear
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
sweep: {space: {optimizer.lr: [0.1, 0.2]}}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(FILE)
    return tmp_path / "tiny.yaml"


def call(*arguments):
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    return left.value.code


@pytest.fixture
def sent(monkeypatch):
    calls = []

    def submit(launcher, requests):
        calls.append((launcher.place, requests))
        return [Submission(JOB, launcher.place, False, 3) for _ in requests]

    monkeypatch.setattr(RayLauncher, "submit", submit)
    monkeypatch.setattr(RayLauncher, "differences_at_once", lambda launcher, locked: {})
    return calls


def test_submit_sends_absolute_storage_and_says_how_to_follow(file, sent, capsys):
    assert call("submit", "tiny.yaml", "--address", ADDRESS, "--set", "sweep.seeds=1") == 0
    assert sent == [(ADDRESS, [SweepRequest(Path("tiny.yaml"), "tiny", str(file.parent / "runs"), ("sweep.seeds=1",))])]
    printed = capsys.readouterr().out
    assert f"expflow logs {JOB} --follow --address {ADDRESS}" in printed
    assert f"expflow stop {JOB} --address {ADDRESS}" in printed


def test_a_wrong_file_is_refused_before_anything_is_sent(file, sent, capsys):
    file.write_text(FILE.replace("model: linear", "model: linnear"))
    assert call("submit", "tiny.yaml", "--address", ADDRESS) == 2
    assert not sent
    assert "tiny.yaml:3:" in capsys.readouterr().err


def test_waiting_leaves_with_the_jobs_exit_code(file, sent, monkeypatch, capsys):
    def follow(launcher, job, on_text):
        on_text("trial 1\n")
        return ClusterJob(job, "FAILED", driver_exit_code=1)

    monkeypatch.setattr(RayLauncher, "follow", follow)
    assert call("submit", "tiny.yaml", "--address", ADDRESS, "--wait") == 1
    printed = capsys.readouterr()
    assert printed.out.endswith("trial 1\n")
    assert printed.err == f"job {JOB}: FAILED\n"


def test_a_job_that_never_ran_says_why(monkeypatch, capsys):
    monkeypatch.setattr(RayLauncher, "follow", lambda *arguments: ClusterJob(JOB, "FAILED", message="no such package"))
    assert call("logs", JOB, "--follow", "--address", ADDRESS) == 3
    assert "error: no such package" in capsys.readouterr().err


def test_ctrl_c_ends_the_watching_and_not_the_job(monkeypatch, capsys):
    def follow(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(RayLauncher, "follow", follow)
    assert call("logs", JOB, "-f", "--address", ADDRESS) == 130
    assert f"expflow stop {JOB}" in capsys.readouterr().err


def test_logs_of_a_job(monkeypatch, capsys):
    monkeypatch.setattr(RayLauncher, "logs", lambda launcher, job: f"{job} at {launcher.place}\n")
    assert call("logs", JOB, "--address", ADDRESS) == 0
    assert capsys.readouterr().out == f"{JOB} at {ADDRESS}\n"


@pytest.mark.parametrize(("status", "printed"), [("RUNNING", "was asked to save"), ("SUCCEEDED", "was over already")])
def test_stop(monkeypatch, capsys, status, printed):
    monkeypatch.setattr(RayLauncher, "stop", lambda launcher, job: ClusterJob(job, status))
    assert call("stop", JOB, "--address", ADDRESS) == 0
    assert printed in capsys.readouterr().out


def test_the_jobs_of_a_cluster(monkeypatch, capsys):
    monkeypatch.setattr(
        RayLauncher, "jobs", lambda launcher: [ClusterJob(JOB, "RUNNING", experiment="tiny", started=1.0)]
    )
    views.list_jobs(None, ADDRESS, None)
    assert JOB in capsys.readouterr().out
    monkeypatch.setattr(RayLauncher, "jobs", lambda launcher: [])
    views.list_jobs(None, ADDRESS, None)
    assert f"no job was submitted to {ADDRESS}\n" in capsys.readouterr().out


def test_where_jobs_are_looked_for_is_said_when_there_is_none(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("expflow.cluster.slurm_launcher.job_states", dict)
    views.list_jobs("slurm", None, str(tmp_path))
    assert f"no job was submitted to Slurm with results in {tmp_path}; --storage" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "shown"), [("PENDING", True), ("FAILED", True), ("RUNNING", False)])
def test_a_job_that_waits_or_never_began_says_why(monkeypatch, capsys, status, shown):
    job = ClusterJob(JOB, status, experiment="tiny", message="PENDING (PartitionConfig)\nmore")
    monkeypatch.setattr(RayLauncher, "jobs", lambda launcher: [job])
    views.list_jobs(None, ADDRESS, None)
    printed = capsys.readouterr().out
    assert ("PENDING (PartitionConfig)" in printed) is shown
    assert "more" not in printed


def test_the_sites_address_is_the_usual_one(monkeypatch, tmp_path):
    asked = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "expflow.site.yaml").write_text("ray: http://site:8265\n")
    monkeypatch.setattr(
        RayLauncher, "stop", lambda launcher, job: asked.append(launcher.place) or ClusterJob(job, "RUNNING")
    )
    call("stop", JOB)
    assert asked == ["http://site:8265"]


def test_a_head_that_is_away_is_3(monkeypatch, capsys):
    def stop(launcher, job):
        raise ServerUnreachable("nobody there")

    monkeypatch.setattr(RayLauncher, "stop", stop)
    assert call("stop", JOB, "--address", ADDRESS) == 3
    assert capsys.readouterr().err == "error: nobody there\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s ago"), (200, "3 min ago"), (7300, "2 h ago"), (200000, "2 d ago")]
)
def test_ago(monkeypatch, seconds, words):
    monkeypatch.setattr(views.time, "time", lambda: 1_000_000.0)
    assert views.ago(1_000_000.0 - seconds) == words
    assert views.ago(0.0) == ""
