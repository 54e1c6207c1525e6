"""Sweeps on a real Ray whose processes are killed: drivers, Tune's trainables, a whole node."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from expflow.events import AttemptFailed, TrialStarted
from tests.faults.killed_sweeps import SAVING, check, kill_until_done
from tests.sweep.runs import Workplace

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    made = Workplace(tmp_path)
    yield made
    made.leave()


def test_a_driver_that_is_killed_at_random_moments_ends_with_every_trial_once(workplace: Workplace) -> None:
    workplace.write(SAVING.format(searcher="tpe", trials=4))
    assert kill_until_done(workplace, 2, seed=1) >= 1
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
def second_raylet(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Process id of the raylet of a two-node cluster's second node; sweeps join that cluster."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    words = [sys.executable, "-m", "tests.faults.two_nodes"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        found = next(json.loads(line) for line in cluster.stdout if line.startswith("{"))
        monkeypatch.setenv("RAY_ADDRESS", found["address"])
        yield found["raylet"]
        cluster.stdin.close()
        cluster.wait(60)


def test_a_node_that_dies_costs_one_attempt(workplace: Workplace, second_raylet: int) -> None:
    # Long trials: Ray takes half a minute to see that a node is gone, and its processes work on until then.
    workplace.write(SAVING.format(searcher="random", trials=2).replace("sleep: 0.15", "sleep: 8.0"))
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for_gangs(2, process)  # one on each node
    os.kill(second_raylet, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    check(workplace, 4)
    failures = [each.body.failure for each in workplace.records() if isinstance(each.body, AttemptFailed)]
    assert failures in (["node_lost"], ["worker_lost"])  # which of the two Ray knew when the attempt was lost
