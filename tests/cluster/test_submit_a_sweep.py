"""Whole sweeps as jobs of a real Ray head with token authentication, by the commands that a user types."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from expflow.cluster.ray_launcher import RayLauncher
from expflow.cluster.specs import RayLauncherSpec
from expflow.events import DriverStopped, TrialEnded, TrialStarted
from expflow.ledger import Record, exists, read

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # Ray's call of aiohttp
]

OWN_NET = """
data: {name: digits, batch_size: 64}
model: {name: "my_net:Net", hidden: 8}
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 1}
sweep:
  space: {model.hidden: [8, 16]}
  seeds: 2
"""
NET = """
import torch

class Net(torch.nn.Sequential):
    def __init__(self, num_classes, hidden):
        layers = torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, num_classes)
        super().__init__(torch.nn.Flatten(), *layers)
"""
PLANTED = {"PLANTED_PASSWORD": "s3cr3t-of-the-caller", "MLFLOW_TRACKING_TOKEN": "s3cr3t-of-the-tracker"}
SLOW = """
task: {name: scripted}
sweep:
  space:
    task.script:
      - [{report: {val/top1: 0.1}}]
      - [{sleep: 3}, {report: {val/top1: 0.2}}]
      - [{sleep: 3}, {report: {val/top1: 0.3}}]
      - [{sleep: 3}, {report: {val/top1: 0.4}}]
      - [{sleep: 3}, {report: {val/top1: 0.5}}]
"""


class Project:
    """A repository with experiments in a folder of it, and where its results go."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address, self.runs = folder, address, folder.parent / "results"
        (folder / "experiments").mkdir(parents=True)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / "experiments" / name.replace("_dot_", ".")).write_text(text)

    def commit(self) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for words in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "all"]):
            subprocess.run(["git", *words], cwd=self.folder, check=True)
        return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=self.folder, text=True).strip()

    def expflow(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "expflow", *words, "--address", self.address]
        return subprocess.run(
            command, cwd=self.folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
        )

    def submit(self, name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.expflow("submit", f"experiments/{name}.yaml", "--storage", str(self.runs), *words, **environment)

    def records(self, name: str, kind: type) -> list[Record]:
        there = read(self.runs / name) if exists(self.runs / name) else ()
        return [record for record in there if isinstance(record.body, kind)]

    def mlflow_runs(self, name: str) -> list[Any]:
        from expflow.tracking.store import bounded_environment, connect

        with bounded_environment():
            client = connect(f"sqlite:///{self.runs}/mlflow.db")
            return list(client.search_runs([client.get_experiment_by_name(name).experiment_id]))


@pytest.fixture
def project(tmp_path: Path, with_token: Any) -> Project:
    return Project(tmp_path / "project", with_token.address)


def kinds(runs: list[Any]) -> Counter[tuple[str, str]]:
    return Counter((run.data.tags["expflow.role"], run.info.status) for run in runs)


def test_a_sweep_over_the_users_own_network(project: Project, with_token: Any, tmp_path: Path) -> None:
    project.write(own_dot_yaml=OWN_NET, my_net_dot_py=NET)
    commit = project.commit()

    refused = project.submit("own", HOME=str(tmp_path), RAY_AUTH_TOKEN_PATH="")
    assert (refused.returncode, refused.stdout) == (3, ""), refused.stderr
    assert refused.stderr.startswith(f"error: the Ray head at {project.address} wants a token")
    assert len(refused.stderr.splitlines()) == 1

    done = project.submit("own", "--set", "sweep.seeds=1", "--wait", **PLANTED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"compare  expflow ui own --storage {project.runs}" in done.stdout
    assert [record.body.status for record in project.records("own", TrialEnded)] == ["done", "done"]
    runs = project.mlflow_runs("own")
    assert kinds(runs) == {("sweep", "FINISHED"): 1, ("trial", "FINISHED"): 2}
    assert all("val/top1" in run.data.metrics for run in runs if run.data.tags["expflow.role"] == "trial")
    assert {run.data.tags["mlflow.source.git.commit"] for run in runs} == {commit}
    check_secrets(project, with_token)


def check_secrets(project: Project, head: Any) -> None:
    """Neither what the caller's environment held nor the head's token stands in results, logs, packages or answers."""
    token = head.token_file.read_text()
    places = [*project.runs.rglob("*"), *head.token_file.parent.rglob("*")]
    files = [path for path in places if path.is_file() and not path.is_symlink() and path != head.token_file]
    assert [path for path in files if path.name.endswith(".log")], "the head's own logs are among them"
    content = {path: path.read_bytes() for path in files}
    for secret in (*PLANTED.values(), token):
        word = secret.rpartition("=")[2].encode()
        assert [path for path, text in content.items() if word in text] == []
    listed = project.expflow("status", "--json", **PLANTED).stdout
    assert not [secret for secret in (*PLANTED.values(), token) if secret in listed]

    for text in (
        "data: {name: digits, password: s3cr3t-in-the-file}",
        "model: {name: 'http://me:s3cr3t-in-an-address@h/x'}",
    ):
        project.write(secret_dot_yaml=text)
        refused = project.submit("secret")
        assert refused.returncode == 2
        assert "s3cr3t" not in refused.stdout + refused.stderr


def test_the_head_says_which_versions_it_has(project: Project) -> None:
    checked = RayLauncher(RayLauncherSpec(address=project.address)).versions(["torch", "no-such-package"])
    assert checked == {
        project.address: {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}
    }


def test_a_stopped_sweep_ends_in_order_and_goes_on(project: Project) -> None:
    project.write(slow_dot_yaml=SLOW)
    sent = project.submit("slow")
    assert sent.returncode == 0, sent.stderr
    match = re.match(r"job (\S+) at", sent.stdout)
    assert match
    job = match[1]
    assert job in project.expflow("status").stdout
    until(lambda: project.records("slow", TrialEnded))
    assert "asked to save and end" in project.expflow("stop", job).stdout

    text: list[str] = []
    over = RayLauncher(RayLauncherSpec(address=project.address)).follow(job, text.append)
    assert (over.status, over.exit_code) == ("STOPPED", 143)
    assert (
        f"to continue: expflow submit experiments/slow.yaml --storage {project.runs} --address {project.address}"
        in "".join(text)
    )
    assert project.expflow("logs", job).stdout == "".join(text)
    assert project.records("slow", DriverStopped)[-1].body.reason == "interrupted"
    ended = len(project.records("slow", TrialEnded))
    assert ended < 5
    runs = project.mlflow_runs("slow")
    assert kinds(runs)["sweep", "KILLED"] == 1
    assert not [run for run in runs if run.info.status == "RUNNING"]

    again = project.submit("slow", "--wait")
    assert again.returncode == 0, again.stdout + again.stderr
    results = [record.body.trial for record in project.records("slow", TrialEnded)]
    assert len(results) == len(set(results)) == 5
    assert len(project.records("slow", TrialStarted)) <= 5 + 2  # only what was running was started again
    assert kinds(project.mlflow_runs("slow")) == {("sweep", "FINISHED"): 1, ("trial", "FINISHED"): 5}


def until(true: Any, patience: float = 120.0) -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
