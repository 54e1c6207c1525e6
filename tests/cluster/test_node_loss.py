"""Sweeps on several machines without a common disk, which are lost in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from expflow.events import AttemptFailed, CheckpointSaved, TrialEnded, TrialStarted
from expflow.ledger import load_state
from tests.cluster.node_sweeps import NodeWorkplace, check_moves, check_reports, kill_raylet, node_workplace, scripted

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def place() -> Iterator[NodeWorkplace]:
    with node_workplace() as place:
        yield place


def test_a_raylet_a_new_node_and_then_the_head_with_its_disk(place: NodeWorkplace) -> None:
    place.write(scripted(trials=8, steps=5, sleep=2.5))
    _, _, two = place.cluster(head=0, one=2, two=2)
    sweep = place.start("sweep", "exp.yaml", nodes=3)
    place.until(lambda: place.count(TrialStarted) >= 4 and place.in_store(4), sweep)
    kill_raylet(two)
    place.add("three", 2)
    place.add("four", 1)  # one slot more than there was
    place.until(lambda: place.count(AttemptFailed) >= 2, sweep)
    place.until(lambda: place.count(TrialEnded) >= 4, sweep)
    records = place.records()
    failures = [record.body for record in records if isinstance(record.body, AttemptFailed)]
    assert {failure.failure for failure in failures} == {"node_lost"}, failures
    assert all("on a node that is gone" in failure.message for failure in failures)
    assert check_moves(records) >= 2
    place.head.lose_power()
    place.cluster(head2=0, five=2, six=2)
    sweep = place.start("sweep", "exp.yaml", nodes=3)
    assert sweep.wait(200) == 0, sweep.communicate()[0]
    records = place.records()
    check_reports(load_state(place.results), records, 8)
    check_moves(records)
    running = [record.body.gang for record in records if isinstance(record.body, TrialStarted)]
    assert len(set(running)) >= 5, running
    assert all(record.body.path for record in records if isinstance(record.body, CheckpointSaved))
