"""Sweeps whose results lie in a real S3 server."""

import contextlib
import json
import signal
import time

import pytest

from expflow.events import CheckpointPruned, CheckpointSaved, TrialReported
from expflow.ledger import load_state, read
from tests.object_store.faulty_proxy import proxy_before
from tests.object_store.s3_servers import s3_variables
from tests.object_store.stored_sweeps import SAVING, check_bucket, check_ledger, faulty_sweep

RETAINED = "  checkpoints: {best: 1}\n"
TRAINED = """
data: {name: digits, batch_size: 64}
model: perceptron
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.05}
trainer: {epochs: 2}
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_drivers_lost_disks_and_a_store_that_fails(s3_server, tmp_path, seed):
    print(faulty_sweep(s3_server, tmp_path, seed, trials=3, kills=2, sleep=0.3))


@pytest.mark.ray
@pytest.mark.slow
def test_a_second_driver_is_refused_and_a_signal_leaves_everything_in_the_store(stored):
    stored.write(SAVING.format(values=[0.2, 0.5, 0.8], sleep=3.0, more=RETAINED))
    first = stored.start("sweep", "exp.yaml")
    stored.wait_for(CheckpointSaved, 1, first)
    here = stored.cache
    stored.cache = stored.folder / "elsewhere"  # another machine
    refused = stored.run("sweep", "exp.yaml", code=3)
    assert f"process {first.pid} on " in refused
    watched = stored.run("status", "exp")
    assert "running" in watched
    stored.cache = here
    first.send_signal(signal.SIGTERM)
    began = time.monotonic()
    first.communicate(timeout=60)
    assert first.returncode == 143
    assert time.monotonic() - began < 20
    reported = [record.body for record in stored.records() if isinstance(record.body, TrialReported)]
    stored.lose_disk()
    stored.run("sweep", "exp.yaml", timeout=300)
    records = list(read(stored.results))
    assert [record.body for record in records if isinstance(record.body, TrialReported)][: len(reported)] == reported
    check_ledger(stored, 3)
    check_bucket(stored)
    check_retention(stored, records)


def check_retention(stored, records) -> None:
    """What the ledger calls pruned is not in the store; the best trial's checkpoints are."""
    pruned = {record.body.path for record in records if isinstance(record.body, CheckpointPruned)}
    assert pruned
    present = set()
    for key, content in stored.store().items():
        if "/trials/" in key and "/manifest/" in key:
            folder = key.partition("/")[2].partition("/manifest/")[0]
            files = json.loads(content)["files"]
            present |= {f"{folder}/{path.rpartition('/')[0]}" for path in files if path.startswith("checkpoints/")}
    assert not pruned & present
    assert any("value=0.8" in path for path in present)


def has_its_end(stored) -> bool:
    """Whether the sweep's end is in the store; what is replaced while it is read is looked at again."""
    with contextlib.suppress(FileNotFoundError):
        return any(b"finished" in content for key, content in stored.store().items() if "exp/manifest/" in key)
    return False


@pytest.mark.ray
@pytest.mark.slow
def test_what_a_driver_left_that_was_killed_after_its_sweep_is_removed_by_the_same_command(stored):
    stored.write(SAVING.format(values=[0.2, 0.5], sleep=1.0, more=""))
    first = stored.start("sweep", "exp.yaml")
    stored.wait_for(CheckpointSaved, 1, first)
    stored.kill(first)
    with proxy_before(stored.direct, delay=0.6) as slow:
        stored.endpoint = slow.url
        second = stored.start("sweep", "exp.yaml")
        while not has_its_end(stored):
            time.sleep(0.05)
            assert second.poll() is None, "it was too quick to be killed before it gave its lock back"
        stored.kill(second)
    stored.endpoint = stored.direct
    with pytest.raises(AssertionError):  # the kill came in time
        check_bucket(stored)
    stored.run("sweep", "exp.yaml", timeout=300)
    check_ledger(stored, 2)
    check_bucket(stored)


@pytest.mark.slow
def test_a_test_evaluation_counts_once_wherever_it_is_asked_for(stored):
    stored.write(TRAINED)
    stored.run("train", "exp.yaml")
    stored.lose_disk()
    evaluated = stored.run("test", "exp")
    assert "There was 1 evaluation" in evaluated
    stored.lose_disk()
    assert "was evaluated on its test split once" in stored.run("test", "exp", code=2)
    shown = stored.run("show", f"{stored.address}/exp/best")
    assert "val/top1" in shown
    stored.lose_disk()
    assert "test/top1" in stored.run("report", "exp", "--storage", stored.address)
    stored.write(TRAINED + f"init: {{from: '{stored.address}/exp/best'}}\n", "tuned.yaml")
    stored.run("train", "tuned.yaml", "--storage", "here")  # weights of a store, results in a folder
    [(source, weights)] = load_state(stored.folder / "here" / "tuned").header.weights.items()
    assert source == f"{stored.address}/exp/best"
    assert weights["origin"].startswith("exp/")
    check_bucket(stored)
    secret = s3_variables("")["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [key for key, content in stored.store().items() if secret in content]


def test_a_store_that_is_not_there_says_so(stored):
    stored.write(SAVING.format(values=[0.5], sleep=0.0, more=""))
    stored.bucket = "nobody-made-it"
    for command in (["sweep", "exp.yaml"], ["plan", "exp.yaml", "--no-check"], ["status", "exp"], ["report", "exp"]):
        assert "no such bucket" in stored.run(*command, code=3), command
