"""What is recorded of a project's state: packages, and what differs from its commit, without secrets."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from expflow.sweep import provenance
from expflow.sweep.provenance import environment_text, installed_packages, uncommitted_changes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text("width = 8\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet"], ["add", "net.py"], [*who, "commit", "--quiet", "-m", "net"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def test_changes_are_recorded_without_secrets(project: Path) -> None:
    assert uncommitted_changes(project) == ""
    (project / "net.py").write_text('width = 16\npassword = "correct-horse-7"\n')
    (project / "new.py").write_text("git does not know it\n")
    changes = uncommitted_changes(project)
    assert "-width = 8\n+width = 16\n" in changes
    assert '+password = "REDACTED"' in changes
    assert "correct-horse-7" not in changes
    assert "new.py" not in changes


def test_long_changes_are_cut(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "LONGEST_CHANGES", 100)
    (project / "net.py").write_text("x = 1\n" * 100)
    changes = uncommitted_changes(project)
    assert len(changes) < 200
    assert "characters in all" in changes


def test_no_repository_has_no_changes(tmp_path: Path) -> None:
    assert uncommitted_changes(tmp_path) == ""


def test_packages_are_named_with_their_versions() -> None:
    packages = installed_packages()
    assert f"torch=={version('torch')}" in packages
    assert packages == sorted(packages, key=lambda line: line.partition("==")[0].lower())
    assert environment_text().startswith("# Python 3.")
