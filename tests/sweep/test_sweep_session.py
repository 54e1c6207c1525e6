"""The way between conductor and dispatcher, without Ray: what is assigned, taken twice, answered, and let go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expflow.events import TrialReported
from expflow.sweep.messages import Message, to_wire
from expflow.sweep.sweep_session import SweepSession
from tests.sweep.gang_messages import began, ended, report, started
from tests.sweep.stage import Stage

FIVE = """
task: {name: scripted, script: [{report: {val/top1: curve}, repeat: 4}]}
trainer: {epochs: 4}
sweep:
  space: {task.value: [0.1, 0.2, 0.3, 0.4, 0.5]}
  metric: val/top1
"""


class FakeDispatcher:
    """Takes down what it is called for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return _Method(self.calls, name)

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, *arguments in self.calls if called == name]  # type: ignore[misc]


class _Method:
    def __init__(self, calls: list[tuple[Any, ...]], name: str) -> None:
        self._calls, self._name = calls, name

    def remote(self, *arguments: Any) -> object:
        self._calls.append((self._name, *arguments))
        return object()


class Wire:
    """A session over a conductor with a ledger in memory, and the messages that it is sent, with their numbers."""

    def __init__(self, folder: Path, limit: int, *, lockstep: bool = False) -> None:
        self.stage = Stage(folder, FIVE)
        self.conductor = self.stage.open()
        self.dispatcher = FakeDispatcher()
        self.session = SweepSession(self.conductor._plan, self.conductor, self.dispatcher, limit, lockstep)
        self.session.begin()
        self.sent = 0

    def send(self, *messages: Message, again: int = 0) -> None:
        """Send new messages, after ``again`` of the last that were sent before are to be repeated."""
        first = self.sent - again
        self.session.take(first, to_wire(messages))
        self.sent = max(self.sent, first + len(messages))

    def assigned(self) -> list[str]:
        return [trial.trial for (trials,) in self.dispatcher.called("assign") for trial in trials.values()]

    def play(self, trial: str) -> None:
        self.send(started(trial), began(trial, 0), report(trial, 4), ended(trial))


def test_there_are_never_more_trials_assigned_than_there_is_room_for(tmp_path: Path) -> None:
    wire = Wire(tmp_path, limit=2)
    assert len(wire.assigned()) == 2
    assert not wire.session.is_scheduling  # no trial has ended: Tune has nothing to do yet
    wire.play(wire.assigned()[0])
    assert len(wire.assigned()) == 3
    assert wire.session.is_scheduling
    for trial in wire.assigned()[1:]:
        wire.play(trial)
    for trial in wire.assigned()[3:]:
        wire.play(trial)
    assert len(set(wire.assigned())) == 5
    assert wire.session.over
    assert not wire.session.is_scheduling
    assert wire.dispatcher.called("release") == [[]]
    assert len(wire.dispatcher.called("forget")) == 5


def test_messages_that_come_again_are_known_by_their_number(tmp_path: Path) -> None:
    wire = Wire(tmp_path, limit=1)
    trial = wire.assigned()[0]
    wire.send(started(trial), began(trial, 0), report(trial, 1))
    wire.send(report(trial, 1), report(trial, 2), again=1)
    wire.send(report(trial, 2), ended(trial), again=1)
    wire.send(ended(trial), again=1)
    assert [event.step for event in wire.stage.ledger.events(TrialReported)] == [1, 2]
    assert len(wire.assigned()) == 2
    assert len(wire.dispatcher.called("forget")) == 1


def test_in_lockstep_each_trial_of_a_batch_gets_its_answer(tmp_path: Path) -> None:
    wire = Wire(tmp_path, limit=2, lockstep=True)
    one, two = wire.assigned()
    wire.send(started(one), began(one, 0), started(two), began(two, 0), report(one, 1), report(two, 1))
    (trials,) = wire.dispatcher.called("assign")[0]
    keys = {assignment.trial: key for key, assignment in trials.items()}
    assert wire.dispatcher.called("decide") == [[keys[one], 1, 1, True], [keys[two], 1, 1, True]]


def test_a_signal_lets_the_trials_leave_once_and_takes_them_back(tmp_path: Path) -> None:
    wire = Wire(tmp_path, limit=2)
    wire.conductor.interrupted_by = 2
    wire.session.tick()
    wire.session.tick()
    assert wire.dispatcher.called("release") == [[]]
    assert wire.session.over
    wire.session.end()
    assert {trial.status for trial in wire.conductor.state.trials.values()} == {"waiting"}
    assert wire.conductor._queue.is_idle


class _Growth:
    """A cluster that has grown by some gangs when it is looked at."""

    def __init__(self, *more: int) -> None:
        self._more = list(more)

    def look(self) -> int:
        return self._more.pop(0) if self._more else 0


def test_the_room_of_nodes_that_join_is_used(tmp_path: Path) -> None:
    wire = Wire(tmp_path, limit=2)
    wire.session._growth = _Growth(0, 2)  # type: ignore[assignment]
    wire.session.tick()
    assert len(wire.assigned()) == 2
    wire.session.tick()
    assert len(wire.assigned()) == 4
