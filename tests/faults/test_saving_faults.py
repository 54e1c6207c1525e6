"""The worst moments of saving, each of them really done: a kill between any two steps, a full disk, a newer driver."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from expflow.errors import DiskFull, Preempted, StaleDriver
from expflow.ledger.lock import DriverLock
from expflow.training import Attempt, Fence
from expflow.training.checkpoints import list_checkpoints, verify_checkpoint
from tests.faults import killed_while_saving, killed_while_training, two_ranks
from tests.training.test_checkpoint_resume import TrialMessages, recipe, root, train

__all__ = ["root"]  # a fixture


def test_a_kill_at_any_step_leaves_the_checkpoints_before_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", killed_while_saving.__name__, str(tmp_path)], capture_output=True, text=True, check=True
    )
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    assert [death["killed"] for death in deaths] == [True] * (len(deaths) - 1) + [False]
    assert {"mkdir", "write", "fsync", "rename", "unlink", "rmdir"} <= {death["at"] for death in deaths}
    for death in deaths:
        # step 1 goes after step 3 has come, never before; what has a checkpoint's name is one
        assert death["valid"] in ([2, 1], [3, 2, 1], [3, 2]), death
        assert death["again"] == [3, 2], death
        assert not [name for name in death["after"] if name.startswith(".step")], death
    assert {len(death["hidden"]) for death in deaths} == {0, 1}


def test_a_training_killed_again_and_again_ends_as_one_that_was_not(root, tmp_path):
    """kill -9 at moments that nobody chose, until the trial is done."""
    whole, _ = train(killed_while_training.LIVELY, root)
    program = [sys.executable, "-m", killed_while_training.__name__, str(root), str(tmp_path), "4"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    steps = [int(line) for line in done.stdout.split()]
    assert len(set(steps)) == 4
    assert steps == sorted(steps)
    again, recorded = train(killed_while_training.LIVELY, root, tmp_path)
    assert recorded.began().step == steps[-1]
    assert again == whole


def test_two_ranks_go_on_bit_for_bit_after_one_was_killed(root, tmp_path):
    """In the middle of the second epoch, with dropout on both ranks and sums that each of them adds up."""
    program = [sys.executable, "-m", two_ranks.__name__, str(root), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 4, done.stderr
    whole, again = ({result["rank"]: result for result in pair} for pair in (results[:2], results[2:]))
    assert whole[0]["step"] == again[0]["step"] == 12
    assert (whole[0]["began"], again[0]["began"]) == (0, 5)
    assert len({result["weights"] for result in results}) == 1
    assert again[0]["reports"] == {step: report for step, report in whole[0]["reports"].items() if int(step) > 5}
    [path, _] = list_checkpoints(tmp_path / "checkpoints")
    assert set(verify_checkpoint(path).files) == {"weights.pt", "state-0.pt", "state-1.pt"}


@pytest.fixture
def little_room():
    """No file of this process may grow beyond 20 kB, as on a full disk; afterwards it may."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_trial_and_leaves_the_checkpoint_before_it(root, tmp_path, little_room):
    whole, _ = train(recipe(), root)
    recorded = TrialMessages(leave_at=2)
    with pytest.raises(Preempted):
        train(recipe(), root, tmp_path, recorded)
    little_room()
    with pytest.raises(DiskFull, match=r"no room for the checkpoint .*step-000000008"):
        train(recipe(), root, tmp_path)
    assert [verify_checkpoint(path).step for path in list_checkpoints(tmp_path / "checkpoints")] == [2]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert train(recipe(), root, tmp_path)[0] == whole


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 96 kB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip("only root may mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_while_training(root, tiny_disk):
    recorded = TrialMessages()
    with pytest.raises(DiskFull):
        train(recipe(checkpoint={"every_steps": 1}), root, tiny_disk, recorded)
    assert recorded.saved()
    assert [verify_checkpoint(path).step for path in list_checkpoints(tiny_disk / "checkpoints")] == recorded.saved()[
        ::-1
    ][:2]


def test_a_rank_that_outlives_its_driver_writes_nothing(root, tmp_path):
    lock = DriverLock.take(tmp_path / "ledger")
    attempt = {"fence": Fence(tmp_path, lock.epoch), "number": 1}
    folder = tmp_path / "trials" / "one"
    with pytest.raises(Preempted):
        train(recipe(), root, folder, TrialMessages(leave_at=2), **attempt)
    lock.give_back()
    newer = DriverLock.take(tmp_path / "ledger")
    with pytest.raises(StaleDriver, match="no longer owns"):
        train(recipe(), root, folder, **attempt)
    assert [verify_checkpoint(path).step for path in list_checkpoints(folder / "checkpoints")] == [2]
    assert len(list((folder / "checkpoints").iterdir())) == 1
    again, recorded = train(recipe(), root, folder, fence=Fence(tmp_path, newer.epoch), number=2)
    assert recorded.began().step == 2
    assert verify_checkpoint(list_checkpoints(folder / "checkpoints")[0]).lock_epoch == newer.epoch
    newer.give_back()
    assert again.step == 8


def test_what_a_killed_attempt_left_half_written_is_removed(root, tmp_path):
    left = tmp_path / "checkpoints" / ".step-000000004-e0-a1.tmp"
    left.mkdir(parents=True)
    (left / "weights.pt").write_bytes(b"half")
    attempt = Attempt(recipe(), 0, root, tmp_path)
    train(attempt.recipe, root, replace(attempt, number=2).folder, number=2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000008"]


def test_sigterm_saves_and_leaves(root, tmp_path):
    """As ``expflow train`` and a rank ask for it: by a flag that the signal's handler sets."""
    asked = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        recorded = TrialMessages()

        def on_report(report):
            os.kill(os.getpid(), signal.SIGTERM)
            return TrialMessages.on_report(recorded, report)

        recorded.on_report, recorded.leave = on_report, lambda: bool(asked)
        with pytest.raises(Preempted, match="asked to leave at step 5, which is saved"):
            train(recipe(3), root, tmp_path, recorded)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert recorded.saved() == [5]
