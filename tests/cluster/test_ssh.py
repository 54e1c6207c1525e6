"""Sweeps on two machines that are reached by ssh, by the commands that a user types."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from expflow.events import TrialEnded
from expflow.ledger import Record, exists, read
from tests.cluster.public_routes import PUBLIC
from tests.cluster.ssh_machines import SshMachines

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def machines() -> Iterator[SshMachines]:
    machines = SshMachines()
    try:
        machines.start()
        yield machines
    finally:
        machines.stop()


SHORT = """
task: {name: scripted}
sweep:
  space:
    task.script:
      - [{sleep: 3}, {report: {val/top1: 0.1}}]
      - [{sleep: 3}, {report: {val/top1: 0.2}}]
"""


class Project:
    """A folder with one experiment, and a site file that names the machines."""

    def __init__(self, folder: Path, machines: SshMachines) -> None:
        self.folder, self.runs, self.jobs = folder, folder / "runs", f".cache/expflow-tests/jobs-{os.getpid()}"
        folder.mkdir()
        lines = [
            f"      - [{{sleep: {s}}}, {{report: {{val/top1: 0.{n + 1}}}}}]" for n, s in enumerate((1, 15, 15, 15))
        ]
        (folder / "x.yaml").write_text(
            "task: {name: scripted}\nsweep:\n  space:\n    task.script:\n" + "\n".join(lines) + "\n"
        )
        (folder / "expflow.site.yaml").write_text(
            f"cluster: desks\nclusters:\n  desks: {{name: ssh, hosts: [one, two], python: {sys.executable},"
            f" options: [-F, {machines.client_file}], folder: {self.jobs}}}\n"
            f"  away: {{name: ssh, hosts: [nowhere.invalid], options: [-F, {machines.client_file}]}}\n"
        )

    def expflow(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "expflow", *words]
        return subprocess.run(
            command, cwd=self.folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
        )

    def ended(self) -> list[str]:
        folder = self.runs / "x"
        records: list[Record] = list(read(folder)) if exists(folder) else []
        return [record.body.trial for record in records if isinstance(record.body, TrialEnded)]


@pytest.fixture
def project(tmp_path: Path, machines: SshMachines) -> Iterator[Project]:
    project = Project(tmp_path / "project", machines)
    yield project
    shutil.rmtree(Path.home() / project.jobs, ignore_errors=True)


def until(true: object, patience: float = 200.0) -> None:
    end = time.monotonic() + patience
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.3)


def test_a_sweep_over_two_machines_that_is_stopped_and_continued(project: Project, machines: SshMachines) -> None:
    sent = project.expflow("submit", "x.yaml")
    assert sent.returncode == 0, sent.stderr
    job = re.findall(r"^job (\S+) at one, two: ", sent.stdout)[0]
    again = project.expflow("submit", "x.yaml")
    assert f"job {job} at one, two: runs already" in again.stdout, again.stdout + again.stderr
    assert re.search(rf"{job} +RUNNING", project.expflow("status", "--on", "desks").stdout)
    until(project.ended)
    until(lambda: all(machines.listening().values()))
    check_what_listens(machines)
    assert "asked to save and end" in project.expflow("stop", job).stdout
    stopped = project.expflow("logs", job, "-f")
    assert stopped.returncode == 143, stopped.stdout + stopped.stderr
    assert f"to continue: expflow submit x.yaml --storage {project.runs} --on desks" in stopped.stdout
    until(lambda: not machines.processes())  # on the second machine, too

    assert project.expflow("submit", "x.yaml").returncode == 0
    over = project.expflow("logs", job, "-f")
    assert over.returncode == 0, over.stdout + over.stderr
    assert over.stdout.startswith(stopped.stdout)
    assert len(project.ended()) == len(set(project.ended())) == 4
    assert re.search(rf"{job} +SUCCEEDED .* 4 done", project.expflow("status", "--on", "desks").stdout)
    until(lambda: not machines.processes())
    folder = Path.home() / project.jobs / job
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700

    fetched = project.expflow(
        "submit", "x.yaml", "--set", "sweep.space={task.script: [[{report: {val/top1: 0.5}}]]}", "--fetch", "home"
    )
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    (home,) = (project.folder / "home").iterdir()
    assert (home / "report.html").read_bytes() == (project.runs / home.name / "report.html").read_bytes()
    until(lambda: not machines.processes())


def test_two_submissions_at_once_are_one_job(project: Project, machines: SshMachines) -> None:
    (project.folder / "x.yaml").write_text(SHORT)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: project.expflow("submit", "x.yaml"), range(2)))
    assert [done.returncode for done in both] == [0, 0], [done.stdout + done.stderr for done in both]
    assert sum("runs already, nothing new was started" in done.stdout for done in both) == 1
    job = re.findall(r"^job (\S+) at one, two: ", both[0].stdout)[0]
    over = project.expflow("logs", job, "-f")
    assert over.returncode == 0, over.stdout + over.stderr
    assert "error" not in over.stdout
    until(lambda: not machines.processes())


CUT_OFF = """#!/bin/sh
# ssh that kills who called it, before it starts the job's process on the second machine
case " $* " in
*" two "*)
    cat > "$0.in"
    if grep -q "^main('join'\\|^main('start'" "$0.in"; then kill -9 $PPID; exit 1; fi
    exec "$REAL_SSH" "$@" < "$0.in" ;;
*) exec "$REAL_SSH" "$@" ;;
esac
"""


def test_a_submission_that_was_cut_off_is_completed_by_the_next(project: Project, machines: SshMachines) -> None:
    (project.folder / "x.yaml").write_text(SHORT)
    fake = project.folder.parent / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(CUT_OFF)
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    cut = project.expflow("submit", "x.yaml", PATH=path, REAL_SSH=str(shutil.which("ssh")))
    assert cut.returncode == -9, cut.stdout + cut.stderr
    again = project.expflow("submit", "x.yaml", "--wait")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "runs already, nothing new was started" in again.stdout
    assert len(project.ended()) == 2
    until(lambda: not machines.processes())


def check_what_listens(machines: SshMachines) -> None:
    """Of all that the job listens on beyond loopback, nothing answers by http without a token, but one word."""
    asked = {}
    for host, ports in machines.listening().items():
        for port in ports:
            for path in ("/", "/metrics", "/api/version", "/api/jobs/", "/api/job_agent/jobs/", *PUBLIC["Ray's agent"]):
                connection = http.client.HTTPConnection(host, port, timeout=5)
                try:
                    connection.request("GET", path)
                    asked[host, port, path] = connection.getresponse().status
                except (OSError, http.client.HTTPException):  # it does not speak http
                    continue
                finally:
                    connection.close()
    assert {path for (*_, path), status in asked.items() if status not in (401, 403)} <= set(PUBLIC["Ray's agent"]), (
        asked
    )


def test_what_differs_there_and_what_does_not_answer_is_said(project: Project) -> None:
    (project.folder / "constraints.txt").write_text("ray==1.0  # of another project\n")
    checked = project.expflow("doctor", "--on", "desks")
    assert (checked.returncode, checked.stderr) == (0, "")
    warned = [line for line in checked.stdout.splitlines() if line.startswith("warn")]
    assert [re.sub(": [0-9.]+, ", ": ?, ", line) for line in warned] == [
        f"warn ray on {host}: ?, 1.0 in the project" for host in ("one", "two")
    ]
    away = project.expflow("submit", "x.yaml", "--on", "away")
    assert (away.returncode, len(away.stderr.splitlines())) == (3, 1), away.stderr
    assert away.stderr.startswith("error: nowhere.invalid cannot be used through ssh: ")
    unknown = project.expflow("stop", "expflow-none-00000000")
    assert unknown.returncode == 2
    assert "one has no job 'expflow-none-00000000'; there are none" in unknown.stderr
