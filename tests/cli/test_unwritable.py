"""Folders that cannot be written, and a second driver: what is said, and that nothing is begun or lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from expflow import cli
from expflow.cluster.ray_launcher import RayLauncher
from expflow.errors import StorageUnwritable
from expflow.ledger import Ledger
from expflow.tracking import start_follower
from tests.tracking import stories

SCRIPTED = """\
task: {name: scripted, script: [{report: {val/top1: 0.5}}]}
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Type a command; returns its exit code, stdout and stderr. None of them may show a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "exp.yaml").write_text(SCRIPTED)
    monkeypatch.setattr("expflow.tracking.follower_process.start_follower", refuse_follower)
    monkeypatch.setattr("expflow.cli.views.run.import_ray_meanwhile", lambda plan: None)

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        message = capsys.readouterr()
        assert "Traceback" not in message.err
        return int(left.value.code or 0), message.out, message.err

    return run


def refuse_follower(folder: Path, uri: str, *, awaited: bool = True) -> None:
    raise AssertionError("a process was started beside a sweep that was refused")


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_file_in_place_of_the_results_is_named(call, command: str) -> None:
    Path("runs").write_text("no folder")
    code, out, err = call(command, "exp.yaml")
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert "runs" in err
    assert "Not a directory" in err


def test_a_full_disk_under_what_is_packed_is_no_bug(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:  # as writing to an open file fails: without the file's name
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("expflow.cluster.submission.pack_project", full)
    monkeypatch.setattr("expflow.cluster.ray_launcher.connect", lambda address: None)
    monkeypatch.setattr(RayLauncher, "differences_at_once", lambda self, locked: {})
    code, out, err = call("submit", "exp.yaml", "--address", "http://127.0.0.1:9", "--storage", "/tmp/x")
    assert (code, out) == (3, "")
    assert err.startswith("error: No space left on device: make room, here and in ")


def test_what_follows_for_mlflow_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "tracking").write_text("no folder")
    with pytest.raises(StorageUnwritable, match=r"tracking.*File exists"):
        start_follower(tmp_path, "sqlite:///nowhere.db")


def test_plan_goes_on_without_keeping_its_forecast(call, monkeypatch: pytest.MonkeyPatch) -> None:
    from expflow.cli.views import plan

    monkeypatch.setattr(plan, "measure_times", lambda made, rows: [replaced_seconds(row) for row in rows])
    Path("runs").write_text("no folder")
    code, out, _ = call("plan", "exp.yaml", "--no-check")
    assert code == 0
    assert "expected: " in out
    assert "note: the forecast cannot be written: " in out
    assert "/runs" in out
    assert out.index("expected: ") < out.index("note: ")


def replaced_seconds(row):
    from dataclasses import replace

    return replace(row, seconds=0.01)


@pytest.mark.parametrize("blocked", ["figures", "report.html"])
def test_a_report_that_cannot_be_written_is_printed(call, tmp_path: Path, blocked: str) -> None:
    folder = tmp_path / "runs" / "depth"
    stories.write(folder, stories.whole_trial(20, 0))
    if blocked == "figures":
        (folder / blocked).write_text("no folder")
    else:
        (folder / blocked / "in").mkdir(parents=True)
    code, out, err = call("report", "depth")
    assert code == 3
    assert "50.00 %" in out, "the answer comes first"
    assert "report   " not in out
    assert err.startswith("error: the report cannot be written: ")
    assert str(folder / blocked) in err


READER = """
import os
from expflow.cli import main
from expflow.cli.views import report
from expflow.report import figures
os.setgid(65534)
os.setuid(65534)
main(["report", "depth"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be had by root alone")
def test_a_colleagues_results_are_reported_to_who_may_only_read_them() -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        Path(place).chmod(0o755)
        env = {**os.environ, "HOME": place, "XDG_CONFIG_HOME": place}
        stories.write(Path(place) / "runs" / "depth", stories.whole_trial(20, 0))
        done = subprocess.run(
            [sys.executable, "-c", READER], cwd=place, capture_output=True, text=True, check=False, timeout=120, env=env
        )
    assert done.returncode == 3, done.stderr
    assert "50.00 %" in done.stdout
    assert "error: the report cannot be written: " in done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_second_driver_is_refused_before_anything_is_said_or_begun(call, tmp_path: Path, command: str) -> None:
    with Ledger.open(tmp_path / "runs" / "exp", stories.header()):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = call(command, "exp.yaml")
        assert (code, out) == (3, "")
        assert err.startswith(f"error: another driver works on {tmp_path}/runs/exp")
        assert sorted(tmp_path.rglob("*")) == before


def test_other_code_is_refused_before_anything_is_said_or_begun(call, tmp_path: Path) -> None:
    stories.write(tmp_path / "runs" / "exp", stories.whole_trial(20, 0), code={"my_net.py": "00"})
    code, out, err = call("sweep", "exp.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
