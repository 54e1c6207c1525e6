"""submit, stop and a job's logs, as typed; the cluster itself is tested in tests/cluster."""

from pathlib import Path

import pytest

from expflow import cli, cluster
from expflow.cli import remote
from expflow.cluster import Job, Package, Submitted
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
        cli.main([str(each) for each in arguments])
    return left.value.code


@pytest.fixture
def sent(monkeypatch):
    calls = []

    def submit(file, **options):
        calls.append((file, options))
        return Submitted(JOB, options["address"], False, Package(Path("p.zip"), Path(), 3, 100, "digest"))

    monkeypatch.setattr(cluster, "submit", submit)
    return calls


def test_submit_sends_absolute_storage_and_says_how_to_follow(file, sent, capsys):
    assert call("submit", "tiny.yaml", "--address", ADDRESS, "--set", "sweep.seeds=1") == 0
    _, options = sent[0]
    assert options == {
        "name": "tiny",
        "storage": str(file.parent / "runs"),
        "address": ADDRESS,
        "sets": ["sweep.seeds=1"],
    }
    said = capsys.readouterr().out
    assert f"expflow logs {JOB} --follow --address {ADDRESS}" in said
    assert f"expflow stop {JOB} --address {ADDRESS}" in said


def test_a_wrong_file_is_refused_before_anything_is_sent(file, sent, capsys):
    file.write_text(FILE.replace("model: linear", "model: linnear"))
    assert call("submit", "tiny.yaml", "--address", ADDRESS) == 2
    assert not sent
    assert "tiny.yaml:3:" in capsys.readouterr().err


def test_waiting_leaves_with_the_jobs_exit_code(file, sent, monkeypatch, capsys):
    def follow(job, on_text, address):
        on_text("trial 1\n")
        return Job(job, "FAILED", driver_exit_code=1)

    monkeypatch.setattr(cluster, "follow", follow)
    assert call("submit", "tiny.yaml", "--address", ADDRESS, "--wait") == 1
    said = capsys.readouterr()
    assert said.out.endswith("trial 1\n")
    assert said.err == f"job {JOB}: FAILED\n"


def test_a_job_that_never_ran_says_why(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "follow", lambda *arguments: Job(JOB, "FAILED", message="no such package"))
    assert call("logs", JOB, "--follow", "--address", ADDRESS) == 3
    assert "error: no such package" in capsys.readouterr().err


def test_ctrl_c_ends_the_watching_and_not_the_job(monkeypatch, capsys):
    def follow(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "follow", follow)
    assert call("logs", JOB, "-f", "--address", ADDRESS) == 130
    assert f"expflow stop {JOB}" in capsys.readouterr().err


def test_logs_of_a_job(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "logs", lambda job, address: f"{job} at {address}\n")
    assert call("logs", JOB, "--address", ADDRESS) == 0
    assert capsys.readouterr().out == f"{JOB} at {ADDRESS}\n"


@pytest.mark.parametrize(("status", "said"), [("RUNNING", "was asked to save"), ("SUCCEEDED", "was over already")])
def test_stop(monkeypatch, capsys, status, said):
    monkeypatch.setattr(cluster, "stop", lambda job, address: Job(job, status))
    assert call("stop", JOB, "--address", ADDRESS) == 0
    assert said in capsys.readouterr().out


def test_the_jobs_of_a_cluster(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "jobs", lambda address: [Job(JOB, "RUNNING", experiment="tiny", started=1.0)])
    remote.list_jobs(ADDRESS)
    assert JOB in capsys.readouterr().out
    monkeypatch.setattr(cluster, "jobs", lambda address: [])
    remote.list_jobs(ADDRESS)
    assert f"no job was submitted to {ADDRESS}" in capsys.readouterr().out


def test_the_sites_address_is_the_usual_one(monkeypatch, tmp_path):
    asked = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "expflow.site.yaml").write_text("ray: http://site:8265\n")
    monkeypatch.setattr(cluster, "stop", lambda job, address: asked.append(address) or Job(job, "RUNNING"))
    call("stop", JOB)
    assert asked == ["http://site:8265"]


def test_a_head_that_is_away_is_3(monkeypatch, capsys):
    def stop(job, address):
        raise ServerUnreachable("nobody there")

    monkeypatch.setattr(cluster, "stop", stop)
    assert call("stop", JOB, "--address", ADDRESS) == 3
    assert capsys.readouterr().err == "error: nobody there\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s ago"), (200, "3 min ago"), (7300, "2 h ago"), (200000, "2 d ago")]
)
def test_ago(monkeypatch, seconds, words):
    monkeypatch.setattr(remote.time, "time", lambda: 1_000_000.0)
    assert remote.ago(1_000_000.0 - seconds) == words
    assert remote.ago(0.0) == ""
