"""Events: what is written reads back, also without what a later version adds."""

import pytest

from expflow.event_kinds import EVENTS, from_json
from expflow.events import ArtifactWritten, CheckpointPruned

WRITTEN = [
    ArtifactWritten("t1", 1, 40, "segmentation", "trials/t1/artifacts/segmentation-40.png", "image", "ab" * 32, 1_234),
    CheckpointPruned("t1", 20, "trials/t1/checkpoints/20", "two newer ones are kept"),
]


@pytest.mark.parametrize("event", WRITTEN, ids=lambda event: event.kind)
def test_an_event_reads_back(event):
    assert from_json(event.to_json()) == event
    assert from_json({**event.to_json(), "of_a_later_version": 1}) == event


def test_events_are_stored_under_the_names_that_ledgers_hold():
    assert list(EVENTS) == [
        "proposed", "started", "reported", "decided", "forked", "checkpoint", "checkpoint_refused", "pruned",
        "artifact", "system", "attempt_failed", "ended", "packed", "network_measured",
        "looked", "driver_stopped",
    ]  # fmt: skip
    assert all(kind == event.kind for kind, event in EVENTS.items())
