"""Ray's helpers that a sweep does not need take no time from it. Notices when Ray names them otherwise."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from expflow.events import TrialReported
from expflow.sweep.ray_helpers import BEHIND, LOWEST, SOCKET_LOOKS, no_waits
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


@pytest.mark.ray
def test_what_is_replaced_and_set_is_there() -> None:
    services, utils = importlib.import_module("ray._private.services"), importlib.import_module("ray._private.utils")
    before = services.get_node, utils.get_dashboard_dependency_error
    assert callable(before[0])
    assert before[1]() is None
    with no_waits():
        assert (services.get_node, utils.get_dashboard_dependency_error) != before
        assert isinstance(utils.get_dashboard_dependency_error(), ImportError)
    assert (services.get_node, utils.get_dashboard_dependency_error) == before
    raylet = Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet"
    assert all(name.removeprefix("RAY_").encode() in raylet.read_bytes() for name in SOCKET_LOOKS)


@pytest.mark.ray
def test_ray_is_asked_for_a_node_when_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own function asks once a second for a node that is not there yet."""
    answers, asked = [[], [], ["ab"]], []

    class Client:
        def __init__(self, address: str) -> None:
            self.address = address

        def get_all_node_info(self, timeout: float) -> dict[Any, None]:
            asked.append(self.address)
            return {SimpleNamespace(hex=lambda name=name: name): None for name in answers[len(asked) - 1]}

    monkeypatch.setattr("ray._private.services.get_node", lambda address, node: (address, node, len(asked)))
    monkeypatch.setattr("ray._raylet.GcsClient", Client)
    with no_waits():
        assert importlib.import_module("ray._private.services").get_node("here:1", "ab") == ("here:1", "ab", 3)
    monkeypatch.delattr("ray._raylet.GcsClient")  # as a Ray that names it otherwise
    with no_waits():
        assert importlib.import_module("ray._private.services").get_node("here:1", "ab") == ("here:1", "ab", 3)
