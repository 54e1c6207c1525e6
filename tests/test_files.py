"""Scratch folders of processes that were killed do not stay for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from expflow.files import scratch_folder

HOLD = """
import signal, sys, tempfile
from expflow.files import scratch_folder
tempfile.tempdir = sys.argv[1]
with scratch_folder("expflow-test-") as folder:
    (folder / "state").write_text("x")
    print(folder, flush=True)
    signal.pause()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a scratch folder, and the folder."""
    command = [sys.executable, "-c", HOLD, str(temporary)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_killed_processs_folder_goes_and_a_living_ones_stays(holder, temporary: Path) -> None:
    process, theirs = holder
    with scratch_folder("expflow-test-") as ours:
        assert (theirs / "state").exists()
    assert not ours.exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert theirs.exists()
    with scratch_folder("expflow-test-") as ours:
        assert not theirs.exists()
        assert list(temporary.iterdir()) == [ours]


def test_links_files_and_other_names_are_left_alone(temporary: Path) -> None:
    target = temporary / "precious"
    target.mkdir()
    (temporary / "expflow-test-link").symlink_to(target)
    (temporary / "expflow-test-file").write_text("x")
    (temporary / "other").mkdir()
    with scratch_folder("expflow-test-"):
        pass
    assert {path.name for path in temporary.iterdir()} == {
        "precious",
        "expflow-test-link",
        "expflow-test-file",
        "other",
    }
