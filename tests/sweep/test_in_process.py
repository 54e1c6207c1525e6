"""``expflow train``: its attempts end, and are tried again, as those of a gang."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from expflow.errors import Interrupted
from expflow.events import AttemptFailed, DriverStopped, Event, TrialReported, TrialStarted
from expflow.ledger import SweepState, read
from expflow.sweep import stop_signals
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import Plan, make_plan

TWO_RANKS = """
task:
  name: scripted
  script: [{report: {val/top1: 0.5}}, {sleep: 2.0}, {report: {val/top1: 0.6}}]
trainer: {epochs: 2}
resources: {ranks: 2}
"""

OWN = """
data: {name: "tests.training.user_code:Blobs"}
task: {name: "tests.sweep.raising_code:Raising", error: %s}
trainer: {epochs: 1}
"""


def rank_processes() -> list[int]:
    """The ranks' processes, in the order in which they were started."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return sorted(pid for pid, command in commands.items() if b"expflow.training.rank_process" in command)


def made(folder: Path, text: str) -> Plan:
    (folder / "exp.yaml").write_text(text)
    return make_plan(folder / "exp.yaml", storage=folder / "runs", alone=True)


def events(plan: Plan, kind: type[Event]) -> list:
    return [record.body for record in read(plan.folder) if isinstance(record.body, kind)]


@pytest.mark.parametrize(
    ("number", "failure", "first_step"), [(signal.SIGTERM, "preempted", 1), (signal.SIGKILL, "worker_lost", 0)]
)
def test_ranks_that_get_a_signal_are_tried_again(tmp_path: Path, number: int, failure: str, first_step: int) -> None:
    plan, sent = made(tmp_path, TWO_RANKS), []

    def observe(event: Event, state: SweepState) -> None:
        if isinstance(event, TrialReported) and not sent:
            sent.extend(rank_processes())
            for pid in sent:
                os.kill(pid, number)

    result = run_in_process(plan, observers=(observe,))
    assert len(sent) == 2
    assert result.exit_code == 0
    assert [event.failure for event in events(plan, AttemptFailed)] == [failure]
    assert [event.from_step for event in events(plan, TrialStarted)] == [0, first_step]


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit", "GeneratorExit"])
def test_whatever_a_users_code_raises_is_its_trials_failure(tmp_path: Path, error: str) -> None:
    plan = made(tmp_path, OWN % error)
    assert run_in_process(plan).exit_code == 1
    (failed,) = events(plan, AttemptFailed)
    assert failed.failure == "code"
    assert failed.message == f"{error}: on purpose"
    assert "raising_code.py" in failed.traceback


def test_a_folder_that_cannot_be_written_is_no_error_of_the_code(tmp_path: Path) -> None:
    plan = made(tmp_path, TWO_RANKS.replace("ranks: 2", "ranks: 1"))
    plan.folder.mkdir(parents=True)
    (plan.folder / "trials").write_text("where a folder should be")
    assert run_in_process(plan).exit_code == 1
    (failed,) = events(plan, AttemptFailed)
    assert failed.failure == "storage"
    assert str(plan.folder / "trials") in failed.message
    assert failed.traceback == ""


HANGING = """
task: {name: scripted, script: [{report: {val/top1: 0.5}}, {hang: true}]}
trainer: {epochs: 2}
resources: {ranks: %d}
"""
STUCK = """
data: {name: "tests.training.user_code:Blobs"}
task: {name: "tests.sweep.raising_code:Stuck"}
trainer: {epochs: 2}
"""


@pytest.mark.parametrize("text", [HANGING % 1, HANGING % 2, STUCK], ids=["one rank", "two ranks", "own code"])
def test_a_trial_that_hangs_is_left_some_time_after_the_signal(tmp_path: Path, monkeypatch, text: str) -> None:
    monkeypatch.setattr(stop_signals, "STOP_SECONDS", 0.5)
    plan, before = made(tmp_path, text), signal.getsignal(signal.SIGTERM)

    def observe(event: Event, state: SweepState) -> None:
        if isinstance(event, TrialReported):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped by SIGTERM") as stopped:
        run_in_process(plan, observers=(observe,))
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert [event.reason for event in events(plan, DriverStopped)] == ["interrupted"]
    assert len(events(plan, TrialReported)) == 1
    assert events(plan, AttemptFailed) == []
    assert rank_processes() == []
