"""Limits of the system that Ray would run into without a word."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from expflow.errors import LimitTooLow
from expflow.sweep import process_limits
from expflow.sweep.process_limits import FILES_WANTED, check_process_limits, tasks_of_user
from tests.sweep.runs import Workplace

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")


def test_a_sweep_with_too_few_open_files_is_refused_before_ray_starts(workplace: Workplace) -> None:
    workplace.scripted([0.1])
    command = f"ulimit -n 200; exec {sys.executable} -m expflow sweep exp.yaml"
    done = subprocess.run(
        ["bash", "-c", command], cwd=workplace.folder, env=workplace.environment(), capture_output=True, text=True
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "a process may have 200 files open here, and Ray needs 512 at the least" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_soft_limit_is_raised_as_far_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (300, 4096), resource.RLIMIT_NPROC: (-1, -1)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    check_process_limits(2)
    assert limits[resource.RLIMIT_NOFILE] == (4096, 4096)
    limits[resource.RLIMIT_NOFILE] = (300, resource.RLIM_INFINITY)
    check_process_limits(2)
    assert limits[resource.RLIMIT_NOFILE] == (FILES_WANTED, resource.RLIM_INFINITY)


def test_too_few_processes_are_refused_with_how_many_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    used = tasks_of_user()
    assert used > 0
    limits = {resource.RLIMIT_NOFILE: (9000, 9000), resource.RLIMIT_NPROC: (used + 400, used + 400)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(process_limits, "tasks_of_user", lambda: used)
    with pytest.raises(LimitTooLow, match=r"of which 400 are free; Ray and 2 ranks take about 420"):
        check_process_limits(2)
    check_process_limits(1)
    monkeypatch.setattr("os.geteuid", lambda: 0)  # root has no such limit
    check_process_limits(2)
