"""Sweeps as jobs of a real Slurm cluster of two nodes, by the commands that a user types."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from expflow.events import DriverStopped, TrialEnded, TrialStarted
from expflow.ledger import Record, exists, read
from tests.cluster.slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

BATCH_SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm" / "sweep.sbatch"
SITE = """
cluster: lab
clusters:
  lab: {name: slurm, nodes: 2, cpus: 1, save_seconds: 30}
  short: {name: slurm, cpus: 1, save_seconds: 90, time: "00:30:00"}
  single: {name: slurm, cpus: 1}
"""


def script(*seconds: float) -> str:
    """A sweep of scripted trials that report once they have slept."""
    lines = [f"      - [{{sleep: {s}}}, {{report: {{val/top1: 0.{n + 1}}}}}]" for n, s in enumerate(seconds)]
    return "task: {name: scripted}\nsweep:\n  space:\n    task.script:\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Project:
    """A folder with experiments and a site file that names the cluster."""

    def __init__(self, folder: Path, slurm: SlurmCluster) -> None:
        self.folder, self.slurm, self.runs = folder, slurm, folder / "runs"
        folder.mkdir()
        (folder / "expflow.site.yaml").write_text(SITE)

    def expflow(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "expflow", *words],
            cwd=self.folder,
            env={**os.environ, **self.slurm.environment, "PLANTED_TOKEN": "s3cr3t-of-the-caller"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def submit(self, *words: str) -> list[str]:
        """Submit; the jobs' names."""
        done = self.expflow("submit", *words)
        assert done.returncode == 0, done.stderr
        return re.findall(r"^job (\S+) at Slurm", done.stdout, re.MULTILINE)

    def records(self, name: str, kind: type) -> list[Record]:
        there = read(self.runs / name) if exists(self.runs / name) else ()
        return [record for record in there if isinstance(record.body, kind)]

    def until(self, true: object, patience: float = 300.0) -> None:
        end = time.monotonic() + patience
        while not true():  # type: ignore[operator]
            assert time.monotonic() < end, [path.read_text() for path in self.runs.glob(".jobs/*/*log")]
            time.sleep(0.3)


@pytest.fixture
def project(tmp_path: Path, slurm: SlurmCluster) -> Project:
    return Project(tmp_path / "project", slurm)


def test_a_sweep_over_two_nodes(project: Project) -> None:
    (project.folder / "$(touch hacked) x.yaml").write_text(script(1, 2, 2, 1))
    (job,) = project.submit("$(touch hacked) x.yaml")
    assert project.submit("$(touch hacked) x.yaml") == [job]  # the same job, started once
    followed = project.expflow("logs", job, "--follow")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "[4/4] done" in followed.stdout
    assert project.expflow("logs", job).stdout == followed.stdout
    name = "%24%28touch%20hacked%29%20x"  # as a folder
    starts = [record.body for record in project.records(name, TrialStarted)]
    assert len(project.records(name, DriverStopped)) == 1
    assert len(starts) == 4
    nodes = (project.runs / ".jobs" / job / "nodes.log").read_text()
    assert nodes.count("Ray runtime started") == 2
    listed = project.expflow("status", "--on", "lab").stdout
    assert re.search(rf"{job} +SUCCEEDED .* 4 done", listed), listed
    assert not list(project.folder.glob("**/hacked"))
    token = (project.runs / ".jobs" / job / "token").read_text()
    for path in project.runs.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"s3cr3t-of-the-caller" not in content, path
            assert path.name == "token" or token.encode() not in content, path
    assert (project.runs / ".jobs" / job / "token").stat().st_mode & 0o777 == 0o600


def test_a_stopped_job_saves_and_the_same_submit_continues(project: Project) -> None:
    (project.folder / "slow.yaml").write_text(script(1, 4, 4, 4, 4, 4))
    (job,) = project.submit("slow.yaml", "--on", "single")
    project.until(lambda: project.records("slow", TrialEnded))
    assert "asked to save and end" in project.expflow("stop", job, "--on", "single").stdout
    followed = project.expflow("logs", job, "--follow", "--on", "single")
    assert followed.returncode == 143, followed.stdout + followed.stderr
    assert f"to continue: expflow submit slow.yaml --storage {project.runs} --on single" in followed.stdout
    assert 0 < len(project.records("slow", TrialEnded)) < 6
    assert project.submit("slow.yaml", "--on", "single") == [job]
    assert project.expflow("logs", job, "--follow", "--on", "single").returncode == 0
    ended = [record.body.trial for record in project.records("slow", TrialEnded)]
    assert len(ended) == len(set(ended)) == 6


def test_an_array_of_three_and_a_requeued_job(project: Project) -> None:
    names = ("a", "b", "c")
    for name in names:
        (project.folder / f"{name}.yaml").write_text(script(2, 2, 2))
    jobs = project.submit("a.yaml", "b.yaml", "c.yaml", "--on", "single")
    assert len(set(jobs)) == 3
    numbers = project.slurm.output("squeue", "--me", "--noheader", "--array", "--format=%i").split()
    assert {number.partition("_")[2] for number in numbers} >= {"0", "1", "2"}
    project.until(lambda: project.records("a", TrialEnded))
    first = next(number for number in numbers if number.endswith("_0"))
    project.slurm.output("scontrol", "requeue", first)
    # Slurm lets a requeued job wait for two minutes.
    project.until(lambda: "PENDING" in project.slurm.output("squeue", "--noheader", f"--jobs={first}", "--format=%T"))
    project.slurm.output("scontrol", "update", f"JobId={first}", "StartTime=now")
    assert project.submit("a.yaml", "b.yaml", "c.yaml", "--on", "single") == jobs
    for job in jobs:
        followed = project.expflow("logs", job, "--follow", "--on", "single")
        assert followed.returncode == 0, followed.stdout + followed.stderr
    for name in names:
        ended = [record.body.trial for record in project.records(name, TrialEnded)]
        assert len(ended) == len(set(ended)) == 3, name
    assert {record.segment for record in project.records("a", TrialEnded)} == {1, 2}, "two drivers, one after the other"


def test_an_allocation_that_ends_early_is_saved_before(project: Project) -> None:
    (project.folder / "long.yaml").write_text(script(1, 1, 300))
    (job,) = project.submit("long.yaml", "--on", "short")
    project.until(lambda: len(project.records("long", TrialEnded)) == 2)
    number, limit, run = project.slurm.output("squeue", "--me", "--noheader", "--format=%i %l %M").split()
    assert limit == "30:00"
    # Slurm counts minutes: one to two are left, in which it asks the job to save.
    project.slurm.output("scontrol", "update", f"JobId={number}", f"TimeLimit={int(run.split(':')[-2]) + 2}")
    followed = project.expflow("logs", job, "--follow", "--on", "short")
    assert followed.returncode == 143, followed.stdout + followed.stderr
    assert "to continue: expflow submit" in followed.stdout
    assert len(project.records("long", TrialEnded)) == 2


def test_the_batch_script_for_those_who_type_sbatch(project: Project) -> None:
    (project.folder / "a '$(touch hacked)' b.yaml").write_text(script(1, 1))
    project.runs.mkdir()
    words = ["sbatch", "--parsable", "--wait", "--cpus-per-task=1", f"--output={project.folder}/log", str(BATCH_SCRIPT)]
    environment = {**os.environ, **project.slurm.environment, "PYTHON": sys.executable}
    environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")  # of the tests; sbatch passes it on
    experiment = [str(project.folder / "a '$(touch hacked)' b.yaml"), str(project.runs)]
    done = subprocess.run([*words, *experiment], env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr + (project.folder / "log").read_text()
    assert "[2/2] done" in (project.folder / "log").read_text()
    assert not list(project.folder.glob("**/hacked"))
    (job,) = (project.runs / ".jobs").iterdir()
    assert (job / "nodes.log").read_text().count("Ray runtime started") == 2
    assert (job / "token").stat().st_mode & 0o777 == 0o600


def test_a_node_says_which_versions_it_has(project: Project) -> None:
    checked = project.expflow("doctor", "--on", "lab")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert re.fullmatch(
        r"ok   versions on (one|two): Python and \d+ packages as in the project\nall is well\n", checked.stdout
    )


def test_what_is_not_there_is_said_at_once(project: Project, tmp_path: Path) -> None:
    unknown = project.expflow("logs", "expflow-none-00000000", "--on", "lab")
    assert unknown.returncode == 2
    assert "no job 'expflow-none-00000000'" in unknown.stderr
    (project.folder / "x.yaml").write_text(script(1))
    wrong = project.expflow("submit", "x.yaml", "--on", "labb")
    assert wrong.returncode == 2
    assert "did you mean 'lab'?" in wrong.stderr
    (project.folder / "expflow.site.yaml").write_text("clusters: {lab: {name: slurm, partition: nowhere}}")
    refused = project.expflow("submit", "x.yaml", "--on", "lab")
    assert refused.returncode == 3
    assert "sbatch failed" in refused.stderr
    (project.folder / "expflow.site.yaml").write_text("clusters: {lab: {name: slurm, nodes: none}}")
    bad = project.expflow("submit", "x.yaml", "--on", "lab")
    assert bad.returncode == 2
    assert "clusters.lab.nodes" in bad.stderr
