"""How a sweep notices nodes that join."""

from __future__ import annotations

import subprocess
import sys

import pytest

from expflow.sweep import cluster_growth
from expflow.sweep.cluster_growth import ClusterGrowth
from tests.sweep.runs import Workplace
from tests.sweep.test_sweep_session import FakeDispatcher

NOT_ASKED = """
import expflow
import expflow.sweep.ray_runner as ray_runner

ray_runner.ClusterGrowth = None
print(list(expflow.load("exp.yaml").sweep(progress=False).trials["status"]))
"""


def test_only_more_room_than_ever_before_makes_gangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_growth, "LOOK_SECONDS", 0.0)
    room, slots, dispatcher = [2, 1, 2, 4, 4], list[int](), FakeDispatcher()
    growth = ClusterGrowth(dispatcher, 2, lambda: room.pop(0), slots.append)
    assert [growth.look() for _ in range(5)] == [0, 0, 0, 2, 0]
    assert dispatcher.called("grow") == [[2]]
    assert slots == [4]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_ray_of_the_sweeps_own_is_not_counted_again(workplace: Workplace) -> None:
    workplace.scripted([0.2, 0.4])
    done = subprocess.run(
        [sys.executable, "-c", NOT_ASKED],
        cwd=workplace.folder,
        env=workplace.environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['done', 'done']"
