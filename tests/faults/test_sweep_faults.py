"""Sweeps on a real Ray whose processes are killed: drivers, Tune's trainables, a whole node."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from expflow.events import AttemptFailed, DriverStopped, TrialReported, TrialStarted
from expflow.ledger import load_state
from tests.faults.killed_searches import check_search, check_weights, write_search
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


def test_a_killed_search_proposes_what_a_controller_without_kills_does(workplace: Workplace) -> None:
    write_search(workplace, 14)
    assert kill_until_done(workplace, 2, seed=2) >= 1
    check_weights(workplace, check_search(workplace, 14))


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
    assert not [record for record in workplace.records() if isinstance(record.body, AttemptFailed)]


SLEEPING = SAVING.replace("sleep: 0.15", "sleep: 3.0")


def test_a_lost_head_of_ray_ends_the_sweep_with_the_line_that_continues_it(workplace: Workplace) -> None:
    workplace.write(SLEEPING.format(searcher="random", trials=2))
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialReported, 1, process)
    (head,) = [pid for pid in workplace.descendants(process.pid, "") if "gcs_server" in command(pid)]
    os.kill(head, signal.SIGKILL)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 3, output
    assert re.search(r"Everything that was finished is saved.*\nto continue: .*expflow.* sweep exp.yaml", output), (
        output
    )
    assert "Traceback" not in output
    workplace.run("sweep", "exp.yaml")
    check(workplace, 4)


def test_sigterm_to_the_whole_tree_ends_the_sweep_as_sigterm_to_its_driver(workplace: Workplace) -> None:
    """As a batch system sends it: to the driver, Ray's processes, ranks and all."""
    workplace.write(SLEEPING.format(searcher="random", trials=2))
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialReported, 1, process)
    for pid in workplace.descendants(process.pid, ""):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 143, output
    assert "WARNING" not in output, "Ray was started again"
    assert re.search(r"stopped by SIGTERM.*\nto continue: .*expflow.* sweep exp.yaml", output), output
    assert "Traceback" not in output
    assert not [record for record in workplace.records() if getattr(record.body, "failure", "") == "code"]
    workplace.run("sweep", "exp.yaml")
    check(workplace, 4)


HANGING = """
task: {name: scripted, script: [{report: {val/top1: curve}}, {hang: true}]}
trainer: {epochs: 2}
resources: {max_concurrent: 2}
sweep:
  space:
    task:
      - {name: scripted, script: [{report: {val/top1: curve}}]}
      - {name: scripted, value: 0.1}
      - {name: scripted, value: 0.2}
      - {name: scripted, value: 0.3}
  metric: val/top1
"""


def test_sigterm_to_a_driver_whose_trials_hang_ends_it_with_the_line_that_continues(workplace: Workplace) -> None:
    """One trial ends, two hang and one waits, so that Tune schedules; its processes are gone after the driver."""
    workplace.write(HANGING)
    process = workplace.start("sweep", "exp.yaml")
    workplace.wait_for(TrialReported, 3, process)
    family = workplace.descendants(process.pid, "")
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 143, output
    assert re.search(r"stopped by SIGTERM.*\nto continue: .*expflow.* sweep exp.yaml", output), output
    assert "Traceback" not in output
    trials = load_state(workplace.results).trials.values()
    assert [trial.status for trial in trials if trial.ended] == ["done"]
    last = workplace.records()[-1].body
    assert isinstance(last, DriverStopped)
    assert last.reason == "interrupted"
    assert not [pid for pid in family if "ray::Rank" in command(pid)]


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    return ""


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
        head = next(json.loads(line) for line in cluster.stdout if line.startswith("{"))
        monkeypatch.setenv("RAY_ADDRESS", head["address"])
        yield head["raylet"]
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
    failures = [record.body.failure for record in workplace.records() if isinstance(record.body, AttemptFailed)]
    assert failures in (["node_lost"], ["worker_lost"])  # which of the two Ray knew when the attempt was lost
