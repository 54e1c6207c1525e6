"""Sweeps that several tests begin with: made once, in a folder that each test gets a copy of."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan


def finish_sweeps(folder: Path, files: Mapping[str, str]) -> Path:
    """Write experiments and sweep each in its turn; returns the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("EXPFLOW_CACHE", str(folder / "cache"))
        for name, text in files.items():
            (folder / f"{name}.yaml").write_text(text)
            run_in_process(make_plan(folder / f"{name}.yaml"))
    return folder


def copy_of_sweeps(finished: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one's own, in which the test works; returns its folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EXPFLOW_CACHE", str(finished / "cache"))
    shutil.copytree(finished / "runs", folder / "runs")
    for file in finished.glob("*.yaml"):
        shutil.copy(file, folder)
    return folder
