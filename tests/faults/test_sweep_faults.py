"""Sweeps on a real Ray whose processes are killed: drivers, Tune's trainables, a whole node."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from expflow.events import AttemptFailed, TrialStarted
from tests.faults.killed_sweeps import SAVING, check, kill_until_done
from tests.sweep.runs import Workplace

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    made = Workplace(tmp_path)
    yield made
    made.leave()


def test_a_driver_that_is_killed_at_random_moments_ends_with_every_trial_once(workplace: Workplace) -> None:
    workplace.write(SAVING.format(searcher="tpe", trials=4))
    assert kill_until_done(workplace, 3, seed=1) >= 2
    check(workplace, 8)


def test_a_trainable_that_is_lost_costs_not_even_an_attempt(workplace: Workplace) -> None:
    workplace.write(SAVING.format(searcher="random", trials=3).replace("sleep: 0.15", "sleep: 1.0"))
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialStarted, 1, process)
    relays: list[int] = []
    while not relays:
        relays = workplace.descendants(process.pid, "ray::ResourceTrainable")
    os.kill(relays[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    check(workplace, 6)
    assert not [each for each in workplace.records() if isinstance(each.body, AttemptFailed)]


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A head and a second node on this machine, each a raylet of its own with one CPU."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield second
    finally:
        with contextlib.suppress(Exception):  # one of its nodes has been killed
            cluster.shutdown()


def test_a_node_that_dies_costs_one_attempt(workplace: Workplace, two_nodes: object) -> None:
    workplace.write(SAVING.format(searcher="random", trials=3).replace("sleep: 0.15", "sleep: 1.0"))
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialStarted, 2, process)  # one on each node
    raylet = two_nodes.all_processes["raylet"][0].process  # type: ignore[attr-defined]
    os.kill(raylet.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    check(workplace, 6)
    failures = [each.body.failure for each in workplace.records() if isinstance(each.body, AttemptFailed)]
    assert failures in (["node_lost"], ["worker_lost"])  # which of the two Ray knew when the attempt was lost
