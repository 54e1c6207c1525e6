"""How a sweep notices nodes that join."""

from __future__ import annotations

import pytest

from expflow.sweep import cluster_growth
from expflow.sweep.cluster_growth import ClusterGrowth
from tests.sweep.test_sweep_session import FakeDispatcher


def test_only_more_room_than_ever_before_makes_gangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_growth, "LOOK_SECONDS", 0.0)
    room, slots, dispatcher = [2, 1, 2, 4, 4], list[int](), FakeDispatcher()
    growth = ClusterGrowth(dispatcher, 2, lambda: room.pop(0), slots.append)
    assert [growth.look() for _ in range(5)] == [0, 0, 0, 2, 0]
    assert dispatcher.called("grow") == [[2]]
    assert slots == [4]
