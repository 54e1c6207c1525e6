"""Results come home: whole, beside what was made here, and never over others."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from expflow import cli
from expflow.cluster.launcher import ClusterJob, Submission
from expflow.cluster.ray_launcher import RayLauncher
from expflow.cluster.result_fetching import copy_results
from expflow.cluster.specs import SshLauncherSpec
from expflow.cluster.ssh_launcher import SshLauncher
from expflow.errors import Refused, ServerUnreachable
from tests.tracking.stories import whole_sweep, whole_trial, write

FILE = "task: {name: scripted, script: [{report: {val/top1: 0.5}}]}\n"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Results of two drivers."""
    folder = tmp_path / "there" / "depth"
    write(folder, whole_sweep(depths=(20,)))
    write(folder, whole_trial(56, 0))
    (folder / "report.html").write_text("two depths")
    (folder / "tracking").mkdir()
    (folder / "tracking" / "cursor.json").write_text("{}")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_state_is_brought_up_to_date_and_what_was_made_here_stays(there: Path, tmp_path: Path) -> None:
    here = tmp_path / "here" / "depth"
    copy_results(there, here)
    wanted = files(there)
    del wanted["tracking/cursor.json"]  # how far the MLflow of there is
    assert files(here) == wanted
    (here / "mine.png").write_bytes(b"a picture")
    write(there, whole_trial(56, 1))
    (there / "report.html").write_text("more")
    for _ in range(2):
        copy_results(there, here)
        wanted = {**files(there), "mine.png": b"a picture"}
        del wanted["tracking/cursor.json"]
        assert files(here) == wanted
    assert [path.name for path in here.parent.iterdir()] == ["depth"]


def test_other_results_and_what_cannot_be_read_are_left_alone(there: Path, tmp_path: Path) -> None:
    here = tmp_path / "here" / "depth"
    write(here, whole_sweep(depths=(8,)))
    before = files(here)
    with pytest.raises(Refused, match="holds something else than an earlier state of these results"):
        copy_results(there, here)
    write(there, whole_trial(20, 5))
    newer = tmp_path / "newer" / "depth"
    copy_results(there, newer)
    shutil.rmtree(there / "ledger")
    with pytest.raises(ServerUnreachable, match="cannot be read from here"):
        copy_results(there, newer)
    assert files(here) == before
    copy_results(newer, newer)
    assert [path.name for path in here.parent.iterdir()] == ["depth"]


SSH = """#!{python}
import os, sys
os.environ["HOME"] = {home!r}
print("Welcome!", flush=True)
os.execvp("sh", ["sh", "-c", sys.argv[-1]])
"""


@pytest.fixture
def ssh(tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> SshLauncher:
    """A launcher whose ssh runs its command here, in another home, where a job has made the results."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(SSH.format(python=sys.executable, home=str(home)))
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    job = home / ".cache/expflow/jobs/expflow-depth-0badcafe"
    job.mkdir(parents=True)
    order = f'{{"experiment": "depth", "results": "{there}", "arguments": [], "variables": {{}}, "nodes": 1}}'
    (job / "order.json").write_text(order)
    return SshLauncher(SshLauncherSpec(hosts=("one",), python=sys.executable), ("--on", "desks"))


def test_through_ssh(ssh: SshLauncher, there: Path, tmp_path: Path) -> None:
    here = tmp_path / "here" / "depth"
    ssh.fetch("expflow-depth-0badcafe", str(there), here)
    wanted = files(there)
    del wanted["tracking/cursor.json"]
    assert files(here) == wanted


def test_a_transfer_that_is_cut_leaves_nothing(ssh: SshLauncher, there: Path, tmp_path: Path) -> None:
    (there / "weights").write_bytes(os.urandom(500_000))
    program = tmp_path / "bin" / "ssh"
    program.write_text(program.read_text().replace("sys.argv[-1]]", "sys.argv[-1] + ' | head -c 100000']"))
    here = tmp_path / "here" / "depth"
    with pytest.raises(ServerUnreachable, match="one did not send all results"):
        ssh.fetch("expflow-depth-0badcafe", str(there), here)
    assert list(here.parent.iterdir()) == []


@pytest.mark.parametrize(("code", "fetched"), [(0, True), (1, True), (143, True), (2, False)])
def test_submit_waits_and_fetches(code: int, fetched: bool, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("depth.yaml").write_text(FILE)
    storage = tmp_path / "there"

    def submit(launcher, requests):
        write(storage / "depth", whole_sweep(depths=(20,)))
        return [Submission("expflow-depth-0badcafe", launcher.place, False, 3)]

    monkeypatch.setattr(RayLauncher, "submit", submit)
    monkeypatch.setattr(
        RayLauncher, "follow", lambda launcher, job, on_text: ClusterJob(job, "FAILED", driver_exit_code=code)
    )
    monkeypatch.setattr(RayLauncher, "differences_at_once", lambda launcher, locked: {})
    words = ["submit", "depth.yaml", "--address", "http://head:8265", "--storage", str(storage), "--fetch", "home"]
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == code
    assert Path("home/depth").exists() == fetched
    assert (f"are in {tmp_path / 'home/depth'}" in capsys.readouterr().err) == fetched


def test_results_that_could_not_be_fetched_are_not_begun(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("depth.yaml").write_text(FILE)
    words = ["submit", "depth.yaml", "--address", "http://head:8265", "--storage", "/far/away/runs", "--fetch", "home"]
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 3
    assert capsys.readouterr().err.startswith("error: the results would go to /far/away/runs, which this machine does")


def test_the_machine_that_has_them_says_how_far_they_are(ssh: SshLauncher, there: Path) -> None:
    order = Path(os.environ["PATH"].partition(":")[0]).parent / "home/.cache/expflow/jobs/expflow-depth-0badcafe"
    (order / "project").mkdir()
    jobs = ssh.jobs()
    assert ssh.progress(jobs) == {"expflow-depth-0badcafe": "4 done; best val/top1 70.00 %"}
    assert ssh.progress([]) == {}
