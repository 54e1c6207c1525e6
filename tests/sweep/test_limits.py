"""What ends a sweep early, and what becomes of trials that fail: budgets, equal errors, failure classes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from expflow.config.schema import Budget
from expflow.events import AttemptFailed, DriverStopped, TrialEnded, TrialProposed, TrialStarted
from expflow.ledger import Ledger, read
from expflow.ledger.header import Header
from expflow.sweep.conductor import Conductor
from expflow.sweep.failures import RULES, is_of_the_node, may_retry
from expflow.sweep.limits import SweepLimits, signature, worked_seconds
from expflow.sweep.messages import Message
from expflow.sweep.trial_expansion import expected_trials
from tests.sweep.gang_messages import began, ended, failed, lost, report, started
from tests.sweep.stage import Gang, Stage
from tests.sweep.test_conductor import begin, experiment, finish, handed_out, statuses


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Clock:
    """Gives seconds; each call costs one."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def limited(stage: Stage, seconds_before: float = 0.0, devices: float = 1.0) -> Conductor:
    limits = SweepLimits(stage.plan().sweep.budget, devices=devices, before=seconds_before, clock=Clock())
    return stage.open(limits=limits)


def test_a_budget_of_trials_takes_whole_configs_and_can_be_raised(tmp_path: Path) -> None:
    values = (0.1, 0.2, 0.3, 0.4)
    stage = Stage(tmp_path, experiment(*values, more="seeds: 2\n  budget: {trials: 5}"))
    conductor = stage.run()
    assert conductor.search_state.closed == "sweep.budget.trials (5) is used up"
    assert statuses(stage) == {0.1: "done", 0.2: "done"}
    assert expected_trials(stage.plan()) == 5
    stage.write(experiment(*values, more="seeds: 2\n  budget: {trials: 8}"))
    stage.run()
    assert len(stage.state().plan_trials()) == 8
    assert len(stage.ledger.events(TrialEnded)) == 8


@pytest.mark.parametrize("budget", ["hours: 0.01", "device_hours: 0.01"])
def test_a_budget_of_time_ends_the_sweep_and_raising_it_goes_on(tmp_path: Path, budget: str) -> None:
    values = tuple(round(0.01 * number, 2) for number in range(1, 31))
    stage = Stage(tmp_path, experiment(*values, more=f"budget: {{{budget}}}"))
    conductor = limited(stage)
    Gang(conductor, 1).run()
    assert conductor.halted == f"sweep.budget.{budget.replace(': ', ' (')}) is used up"
    assert conductor.leaving
    assert conductor.propose() is None
    done = len(stage.ledger.events(TrialEnded))
    assert 0 < done < 30
    stage.write(experiment(*values, more=f"budget: {{{budget.replace('0.01', '10')}}}"))
    Gang(limited(stage), 1).run()
    assert set(statuses(stage).values()) == {"done"}
    assert len({end.trial for end in stage.ledger.events(TrialEnded)}) == 30


def test_hours_of_earlier_drivers_count(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, more="budget: {hours: 1}"))
    conductor = limited(stage, seconds_before=3601)
    conductor.tick()
    assert "sweep.budget.hours (1) is used up" in conductor.halted


def test_worked_seconds_believes_the_driver_and_not_the_clock_on_the_wall(tmp_path: Path) -> None:
    for seconds in (100.0, 20.0):
        ledger = Ledger.open(tmp_path, Header(name="exp", text="", file="exp.yaml"))
        ledger.close("finished", {"seconds": seconds})
    killed = Ledger.open(tmp_path, Header(name="exp", text="", file="exp.yaml"))
    killed.abandon()  # of a killed one only the times of its lines are there: nothing was written after the first
    assert worked_seconds(tmp_path) == pytest.approx(120.0)
    ledger = Ledger.open(tmp_path, Header(name="exp", text="", file="exp.yaml"))
    ledger.append(DriverStopped("finished", {"seconds": 1.0}))
    ledger.abandon()
    assert worked_seconds(tmp_path) == pytest.approx(120.0)  # the last driver's own time is its own to count
    assert worked_seconds(tmp_path, with_last=True) == pytest.approx(121.0)


def test_the_time_of_a_last_driver_that_was_killed_counts_as_far_as_it_wrote(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, Header(name="exp", text="", file="exp.yaml"))
    ledger.append(TrialProposed("t1", "c1", 0, {}, {}))
    ledger.abandon()
    times = [record.at for record in read(tmp_path)]
    assert worked_seconds(tmp_path) == 0
    assert worked_seconds(tmp_path, with_last=True) == pytest.approx(times[-1] - times[0]) != 0


def test_devices_count_for_every_rank_and_also_what_failed(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    now = [0.0]
    limits = SweepLimits(Budget(), devices=4.0, clock=lambda: now[0])
    conductor = stage.open(limits=limits)
    trial = begin(conductor)
    conductor.take([began(trial, 0)])
    now[0] = 900.0
    assert limits.device_hours(conductor.state) == pytest.approx(1.0)
    finish(conductor, trial, *failed(trial))  # on the ledger's own clock
    now[0] = 9000.0
    assert 0 < limits.device_hours(conductor.state) < 1.0


def trace(line: int, value: int) -> str:
    return f'Traceback\n  File "net.py", line {line}, in forward\n    x = {value}\n'


def raised(trial: str, line: int, text: str) -> list[Message]:
    return failed(trial, text=text, traceback=trace(line, 0))


def test_the_same_error_in_the_first_trials_stops_the_sweep(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, 0.3, 0.4, 0.5))
    conductor = stage.open()
    for shape in (3, 4, 5):  # the message differs in a number, the place is the same
        trial = begin(conductor)
        finish(conductor, trial, *raised(trial, 7, f"ValueError: bad shape {shape}"))
    assert "the first 3 trials failed with the same error" in conductor.halted
    assert "bad shape 5" in conductor.halted
    assert "--retry failed" in conductor.halted
    assert conductor.propose() is None
    assert handed_out(stage.open(retry_failed=True)) == [(value, 0) for value in (0.1, 0.2, 0.3, 0.4, 0.5)]


@pytest.mark.parametrize("other", ["another place", "a trial that is done", "another class"])
def test_errors_that_are_not_all_the_same_stop_nothing(tmp_path: Path, other: str) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, 0.3, 0.4, 0.5))
    conductor = stage.open()
    for number in range(4):
        trial = begin(conductor)
        if number == 1 and other == "a trial that is done":
            finish(conductor, trial)
        elif number == 1 and other == "another class":
            finish(conductor, trial, *failed(trial, "diverged"))
        else:
            line = 8 if number == 1 else 7
            finish(conductor, trial, *raised(trial, line, "ValueError: bad shape"))
    assert conductor.halted == ""
    assert conductor.has_work()


def test_a_signature_is_places_and_kind() -> None:
    def of(text: str, where: str) -> str:
        return signature(AttemptFailed("t", 1, "code", text, where))

    assert of("ValueError: 1", trace(7, 1)) == of("ValueError: 2", trace(7, 2))
    assert of("ValueError: 1", trace(7, 1)) != of("TypeError: 1", trace(7, 1))
    assert of("ValueError: 1", trace(7, 1)) != of("ValueError: 1", trace(8, 1))
    assert of("no luck", "") == "no luck"


@pytest.mark.parametrize("kind", RULES)
def test_each_class_of_failure_has_its_rule(kind: str) -> None:
    tries = {"worker_lost": 3, "node_lost": 3, "hung": 3, "preempted": None}.get(kind, 1)
    assert RULES[kind].tries == tries
    assert may_retry(kind, 2) == (tries is None or tries > 2)
    assert may_retry(kind, 99) == (kind == "preempted")
    assert may_retry(kind, 2, elsewhere=True) == (may_retry(kind, 2) or is_of_the_node(kind))  # another disk has room
    assert RULES[kind].infeasible == (kind in ("diverged", "out_of_memory"))


def test_a_searcher_learns_that_a_config_diverges_but_nothing_from_a_lost_machine(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, 0.3, 0.4, 0.5))
    conductor = stage.open()
    learned = []
    search_state = conductor.search_state
    tell = search_state._searcher.complete
    search_state._searcher.complete = lambda values, what: (learned.append(what), tell(values, what))  # type: ignore[method-assign]
    for kind in ("diverged", "node_lost", "out_of_memory", "code"):
        trial = begin(conductor)
        finish(conductor, trial, *failed(trial, kind))
    good = begin(conductor)
    finish(conductor, good, report(good, 4, 0.75), ended(good))
    assert [result.kind for result in learned] == ["infeasible", "failed", "infeasible", "failed", "complete"]
    assert learned[-1].score == 0.75


def test_what_an_attempt_that_failed_had_reported_is_kept_until_the_next_begins(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    conductor.take([began(trial, 0), report(trial, 1), report(trial, 2), lost(trial)])
    conductor.take([started(trial, 2, "gang-2"), began(trial, 1, attempt=2)])
    state = stage.state().trials[trial]
    assert [report.step for report in state.reports] == [1]  # it goes on from the checkpoint of step 1
    assert [(start.attempt, start.from_step) for start in stage.ledger.events(TrialStarted)] == [(1, 0), (2, 1)]
    assert len(stage.ledger.events(TrialProposed)) == 1
