"""What a project is locked to, beside what a machine has."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from expflow import cli
from expflow.cluster import ray_launcher
from expflow.cluster.slurm_launcher import SlurmLauncher
from expflow.cluster.specs import SlurmLauncherSpec
from expflow.cluster.version_lock import PROBE, differences, locked_versions, packages_of, parse_probe
from expflow.doctor.cluster_checks import check_versions
from expflow.errors import ServerUnreachable

LOCK = """\
# of the project
torch==2.11.0 ; python_version >= "3.11"
PyYAML==6.0
Ray[default]==2.57.1  # the cluster's
numpy>=1
not a requirement !
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "constraints.txt").write_text(LOCK)
    return tmp_path


def test_a_projects_own_pins_go_before_what_is_installed(project: Path) -> None:
    locked = locked_versions(project)
    assert (locked["torch"], locked["ray"]) == ("2.11.0", "2.57.1")
    assert locked["numpy"] == metadata.version("numpy")
    assert locked["python"] == platform.python_version()
    assert "pyyaml" not in locked, "expflow asks for none"


def test_builds_and_patches_of_python_make_no_difference() -> None:
    locked = {"python": "3.11.2", "torch": "2.15.0+cu132", "ray": "2.60.0", "mlflow": "3.17.2"}
    there = {"python": "3.11.9", "torch": "2.15.0", "ray": "2.59.0"}
    assert [(row.package, row.locked, row.there) for row in differences(locked, there)] == [
        ("ray", "2.60.0", "2.59.0"),
        ("mlflow", "3.17.2", ""),
    ]
    assert [row.package for row in differences(locked, {**locked, "python": "3.12.0"})] == ["python"]


def test_a_machine_is_asked_by_a_script() -> None:
    words = [sys.executable, "-I", "-c", PROBE, "torch", "no-such-package"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    versions = parse_probe(f"Welcome to one!\n{printed}", "one")
    assert versions == {"python": platform.python_version(), "torch": metadata.version("torch")}
    with pytest.raises(ServerUnreachable, match="one does not say which versions it has: bash: no python"):
        parse_probe("Welcome to one!\nbash: no python\n", "one")


class FakeCluster:
    """Two machines: one as this one, and one with less."""

    def versions(self, packages):
        here = {name: metadata.version(name) for name in packages} | {"python": platform.python_version()}
        return {"one": here, "two": {**{name: here[name] for name in here if name != "optuna"}, "timm": "0.1"}}


def test_the_doctor_names_machine_and_package(tmp_path: Path) -> None:
    checks = list(check_versions(FakeCluster(), tmp_path))
    count = len(packages_of(locked_versions(tmp_path)))
    timm, optuna = metadata.version("timm"), metadata.version("optuna")
    assert [(check.name, check.state, check.finding) for check in checks] == [
        ("versions on one", "ok", f"Python and {count} packages as in the project"),
        ("optuna on two", "fail", f"not installed, {optuna} in the project"),
        ("timm on two", "warn", f"0.1, {timm} in the project"),
    ]
    assert checks[1].mend == "there: install the versions of this machine"


def test_a_job_says_what_differs_before_it_begins(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_VERSIONS", f"python=={platform.python_version()} torch==1.0 no-such-package==3")
    Path("x.yaml").write_text("task: {name: scripted, script: [{report: {val/top1: 0.5}}]}\n")
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "x.yaml"])
    assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    torch = metadata.version("torch")
    assert lines[:2] == [
        f"warning: torch {torch} on this machine, 1.0 in the project that was sent",
        "warning: no-such-package not installed on this machine, 3 in the project that was sent",
    ]
    assert lines[2].startswith("x: 1 trial")


def test_a_difference_is_said_before_anything_is_sent(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text("task: {name: scripted, script: [{report: {val/top1: 0.5}}]}\n")
    Path("constraints.txt").write_text("ray==1.0\n")
    monkeypatch.setattr(ray_launcher, "head_version", lambda place, token: "2.60.0")
    monkeypatch.setattr(ray_launcher, "connect", lambda address: pytest.fail(capsys.readouterr().err))
    with pytest.raises(pytest.fail.Exception, match=r"warning: ray 2\.60\.0 on http://head:8265, 1.0 in the project"):
        cli.main(["submit", "x.yaml", "--address", "http://head:8265", "--storage", str(tmp_path)])


@pytest.mark.parametrize(("python", "differing"), [(sys.executable, ["ray"]), ("/nowhere/python", None)])
def test_slurm_asks_the_nodes_python_where_this_machine_has_it(tmp_path, python: str, differing) -> None:
    launcher = SlurmLauncher(SlurmLauncherSpec(python=python), ("--on", "lab"), str(tmp_path))
    locked = {**locked_versions(tmp_path), "ray": "1.0"}
    rows = launcher.differences_at_once(locked).get(python)
    assert (rows and [row.package for row in rows]) == differing
