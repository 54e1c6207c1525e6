"""Sweeps on several machines without a common disk, which are lost in the middle."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from expflow.events import AttemptFailed, CheckpointSaved, TrialEnded, TrialStarted
from expflow.ledger import Header, Record, load_state
from tests.cluster.conftest import wait_until_it_answers
from tests.cluster.node_machines import Machine
from tests.cluster.node_sweeps import (
    NodeWorkplace,
    check_moves,
    check_reports,
    check_resumed,
    kill_raylet,
    moves,
    node_workplace,
    scripted,
)
from tests.wrong_clocks import clock_variables

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def place() -> Iterator[NodeWorkplace]:
    with node_workplace() as place:
        yield place


LEASE, RENEWED = 30.0, 5.0
"""In place of two minutes and 20 s."""


def test_a_raylet_a_new_node_the_head_with_its_disk_and_a_drained_node(place: NodeWorkplace) -> None:
    place.write(scripted(trials=6, steps=5, sleep=2.5))
    place.lease = LEASE, RENEWED
    _, _, two = place.cluster(head=0, one=2, two=2, clocks={"one": clock_variables(10)})
    sweep = place.start("sweep", "exp.yaml", nodes=3)
    place.until(lambda: place.count(TrialStarted) >= 4 and place.in_store(4), sweep)
    stored, before = place.steps_in_store(), len(place.records())
    kill_raylet(two)
    place.add("three", 3)  # one slot more than there was
    place.until(lambda: place.count(AttemptFailed) >= 2, sweep)
    place.until(lambda: place.count(TrialEnded) >= 2 and check_moves(place.records()) >= 2, sweep)
    records = place.records()
    failures = [record.body for record in records if isinstance(record.body, AttemptFailed)]
    assert {failure.failure for failure in failures} == {"node_lost"}, failures
    assert all("on a node that is gone" in failure.message for failure in failures)
    check_resumed(records, stored, before)
    running = {record.body.gang for record in records if isinstance(record.body, TrialStarted)}
    assert len(running) >= 5, running
    for machine in place.machines.running:
        machine.lose_power()
    _, five = place.cluster(head2=1, five=1)
    refused = place.start("sweep", "exp.yaml", nodes=2).communicate(timeout=60)[0]
    lease = re.search(r"if it died, this command works in (\d+) s", refused)
    assert lease, refused
    time.sleep(int(lease[1]))
    sweep = place.start("sweep", "exp.yaml", nodes=2)
    lose_to_another(place, five, sweep)
    output = sweep.communicate(timeout=200)[0]
    assert sweep.returncode == 0, output
    records = place.records()
    check_reports(load_state(place.results), records, 6)
    check_moves(records)
    assert all(record.body.path for record in records if isinstance(record.body, CheckpointSaved))


def lose_to_another(place: NodeWorkplace, machine: Machine, sweep: subprocess.Popen[str]) -> None:
    """Whoever rents a machine out takes it away, and says so 30 s before: its trial has saved and left by then."""
    place.until(lambda: sum(isinstance(record.body, Header) for record in place.records()) == 2, sweep)
    known = place.count(TrialStarted)
    place.until(lambda: place.count(TrialStarted) >= known + 2, sweep)
    before = len(place.records())
    began = time.monotonic()
    place.machines.drain(place.head, machine, 30)
    place.until(lambda: any(map(is_preempted, place.records()[before:])), sweep, 30 - (time.monotonic() - began))
    time.sleep(max(0.0, 30 - (time.monotonic() - began)))
    machine.lose_power()
    place.until(lambda: place.count(TrialEnded) == 6, sweep)
    (left,) = [record.body for record in place.records()[before:] if isinstance(record.body, AttemptFailed)]
    assert left.failure == "preempted"
    (repeated,) = [
        count
        for begun, count in moves(place.records())
        if (begun.trial, begun.attempt) == (left.trial, left.attempt + 1)
    ]
    assert not repeated


def is_preempted(record: Record) -> bool:
    return isinstance(record.body, AttemptFailed) and record.body.failure == "preempted"


TWO_RANKS = """
data: {name: digits, batch_size: 32}
model: {name: mlp, depth: 1, hidden: 32}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
trainer: {epochs: 3, checkpoint: {every_epochs: 1}}
init: {from: ./start.weights}
resources: {ranks: 2}
"""


def save_start(path: Path) -> None:
    """Weights that the trial begins with, which only the driver's machine has: the nodes get them from the store."""
    layers = (("hidden1", 32, 64), ("head", 10, 32))
    generator = torch.Generator().manual_seed(3)
    weights = {f"{name}.weight": torch.randn(*shape, generator=generator) / 8 for name, *shape in layers}
    torch.save({**weights, **{f"{name}.bias": torch.zeros(outputs) for name, outputs, _ in layers}}, path)


def here(place: NodeWorkplace, folder: Path, *words: str) -> str:
    """A command on this machine, which is no part of the cluster and has a cache of its own."""
    own = {"EXPFLOW_CACHE": str(folder / "cache"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-m", "expflow", *words],
        cwd=place.project,
        env={**os.environ, **place.machines.variables(), "TMPDIR": "/tmp", **own},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ranks_on_two_nodes_give_the_weights_that_they_give_on_one(place: NodeWorkplace, tmp_path: Path) -> None:
    place.write(TWO_RANKS)
    save_start(place.project / "start.weights")
    subprocess.run(["git", "init", "-q"], cwd=place.project, check=True)
    head, *_ = place.cluster(takes_jobs=True, head=0, one=1, two=1)
    here(place, tmp_path, "train", "exp.yaml", "--storage", str(tmp_path / "here"))
    place.machines.wait_joined()
    wait_until_it_answers(head.started[0], f"http://{head.address}:8265", place.machines.folder / "head.log")
    sent = ["submit", "exp.yaml", "--address", f"http://{head.address}:8265", "--storage", "s3://bucket/runs"]
    here(place, tmp_path, *sent, "--fetch", str(tmp_path / "home"))
    (there,) = load_state(tmp_path / "home" / "exp").plan_trials()
    (at_home,) = load_state(tmp_path / "here" / "exp").plan_trials()
    assert there.weights
    assert there.weights == at_home.weights
    assert [report.metrics["val/top1"] for report in there.reports] == [
        report.metrics["val/top1"] for report in at_home.reports
    ]
    (trial,) = (tmp_path / "home" / "exp" / "trials").iterdir()
    assert {"config.yaml", "log.txt", "reports.jsonl"} <= {file.name for file in trial.iterdir()}
    assert list(trial.glob("checkpoints/step-*/state-1.pt")), list(trial.rglob("*"))
