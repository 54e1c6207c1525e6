"""Ray's helpers that a sweep does not need take no time from it. Notices when Ray names them otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from expflow.events import TrialReported
from expflow.sweep.ray_helpers import BEHIND, LOWEST
from tests.sweep.runs import Workplace

WAITING = """
task: {name: scripted, script: [{report: {val/top1: 0.5}}, {sleep: 600}, {report: {val/top1: 0.6}}]}
trainer: {epochs: 1}
resources: {max_concurrent: 1}
sweep: {space: {task.value: [0.1]}, metric: val/top1}
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they run as Ray starts them")
def test_no_dashboard_runs_helpers_are_behind_and_no_worker_is_idle(workplace: Workplace) -> None:
    workplace.write(WAITING)
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialReported, 1, process)
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in workplace.descendants(process.pid, "")}
    assert not [line for line in lines.values() if "dashboard/dashboard.py" in line or line.startswith("ray::IDLE")]
    for part in BEHIND:
        (helper,) = [pid for pid, line in lines.items() if part in line]
        assert os.getpriority(os.PRIO_PROCESS, helper) == LOWEST
