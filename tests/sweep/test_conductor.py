"""The conductor without Ray: what is proposed, recorded and decided, and what a further driver makes of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from expflow.events import AttemptFailed, Decided, Event, Proposed, Reported, TrialEnded, TrialStarted
from expflow.ledger import SweepState
from expflow.sweep.conductor import Conductor
from expflow.sweep.files import trial_folder
from expflow.sweep.journal import FILE, Journal
from expflow.training.contract import Attempt, World
from expflow.training.scripted import play
from tests.sweep.stage import Stage

EXPERIMENT = """
task: {{name: scripted}}
trainer: {{epochs: {epochs}}}
sweep:
  space: {{task.value: {values}}}
  metric: val/top1
  {more}
"""


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def experiment(*values: float, epochs: int = 4, more: str = "") -> str:
    return EXPERIMENT.format(values=list(values), epochs=epochs, more=more)


def message(kind: str, trial: str, **more: object) -> dict[str, object]:
    return {"kind": kind, "trial": trial, "attempt": 1, **more}


def started(trial: str) -> dict[str, object]:
    return message("started", trial, gang="gang-1")


def report(trial: str, step: int, value: float = 0.5) -> dict[str, object]:
    return message("report", trial, step=step, metrics={"val/top1": value}, progress=step / 4, seconds=float(step))


def ended(trial: str, status: str = "done") -> dict[str, object]:
    return message("ended", trial, status=status, step=4, seconds=3.0, weights="w")


def failed(trial: str, kind: str = "code", text: str = "boom") -> list[dict[str, object]]:
    lost = message("attempt_failed", trial, failure=kind, message=text, traceback="")
    return [lost, {**ended(trial, "failed"), "step": 0}]


def handed_out(conductor: Conductor) -> list[tuple[float, int]]:
    """Value and seed of everything that is handed out without anything coming back."""
    found = []
    while (work := conductor.propose()) is not None:
        found.append((work.planned.values["task.value"], work.planned.seed))
    return found


def begin(conductor: Conductor) -> str:
    work = conductor.propose()
    assert work is not None
    conductor.take([started(work.planned.trial)])
    return work.planned.trial


def finish(conductor: Conductor, trial: str, *messages: dict[str, object]) -> None:
    conductor.take([*messages] or [report(trial, 1), report(trial, 4), ended(trial)])
    conductor.returned(trial)


def statuses(stage: Stage) -> dict[float, str]:
    return {trial.values["task.value"]: trial.status for trial in stage.state().plan_trials()}


def test_trials_are_proposed_in_the_order_of_the_file_and_each_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, 0.3, more="seeds: 2"))
    wanted = [(value, seed) for value in (0.1, 0.2, 0.3) for seed in (0, 1)]
    assert handed_out(stage.open()) == wanted
    assert [(each.values["task.value"], each.seed) for each in stage.ledger.events(Proposed)] == wanted
    assert handed_out(stage.open()) == wanted  # none of them has ended
    assert len(stage.ledger.events(Proposed)) == 6


def test_finished_trials_are_answered_from_the_ledger(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    conductor = stage.open()
    finish(conductor, begin(conductor))
    cut_off = begin(conductor)
    conductor.take([report(cut_off, 1)])

    again = stage.open()
    work = again.propose()
    assert work is not None
    assert (work.planned.trial, work.attempt) == (cut_off, 2)
    assert again.propose() is None
    assert not stage.open().state.running  # their driver is gone


def test_more_seeds_and_another_value_are_all_that_runs(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    stage.run()
    stage.write(experiment(0.3, 0.2, more="seeds: 2"))
    assert handed_out(stage.open()) == [(0.3, 0), (0.3, 1), (0.2, 1)]
    state = stage.state()
    assert [(each.values["task.value"], each.seed) for each in state.plan_trials()] == [
        (0.3, 0),
        (0.3, 1),
        (0.2, 0),
        (0.2, 1),
    ]
    assert len(state.trials) == 5  # the dropped value's result stays


def test_a_longer_budget_reopens_what_is_done_and_nothing_else(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    conductor = stage.open()
    finish(conductor, begin(conductor))
    bad = begin(conductor)
    finish(conductor, bad, *failed(bad))
    stage.write(experiment(0.1, 0.2, epochs=8))
    assert handed_out(stage.open()) == [(0.1, 0)]
    assert statuses(stage) == {0.1: "waiting", 0.2: "failed"}


@pytest.mark.parametrize(("retry", "expected"), [(False, []), (True, [(0.1, 0)])])
def test_failed_trials_run_again_only_when_asked(
    tmp_path: Path, retry: bool, expected: list[tuple[float, int]]
) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    finish(conductor, trial, *failed(trial))
    again = stage.open(retry_failed=retry)
    assert handed_out(again) == expected
    assert [each.failure for each in stage.ledger.events(AttemptFailed)] == ["code"]


def test_a_failed_trial_that_is_tried_again_is_recorded_as_a_new_attempt(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    finish(conductor, trial, *failed(trial))
    again = stage.open(retry_failed=True)
    assert handed_out(again) == [(0.1, 0)]
    said = [started(trial), report(trial, 1), report(trial, 4), ended(trial)]
    again.take([{**each, "attempt": 2} for each in said])
    assert statuses(stage) == {0.1: "done"}
    assert [each.attempt for each in stage.ledger.events(TrialStarted)] == [1, 2]


def test_a_stop_is_written_before_it_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, more="scheduler: {name: asha, reduction: 2}"))
    conductor = stage.open()
    good, bad = begin(conductor), begin(conductor)
    conductor.take([report(good, 1, 0.9)])
    assert conductor.goes_on([report(good, 1)])
    conductor.take([report(bad, 1, 0.1)])
    kinds = [type(body).__name__ for _, body in stage.ledger.read()][-2:]
    assert kinds == ["Decided", "TrialEnded"]
    assert not conductor.goes_on([report(bad, 1)])
    conductor.take([ended(bad, "stopped")])  # what the gang sends afterwards says nothing new
    assert len(stage.ledger.events(TrialEnded)) == 1
    assert statuses(stage) == {0.1: "running", 0.2: "stopped"}


def test_a_recorded_stop_wins_over_what_the_scheduler_would_say_now(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    conductor.take([report(trial, 1)])
    conductor.record(Decided(trial, 1, 1, "stop"))  # and killed right here
    assert handed_out(stage.open()) == []
    assert statuses(stage) == {0.1: "stopped"}


def test_a_report_that_came_before_its_decision_is_decided_by_the_next_driver(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, more="scheduler: {name: asha, reduction: 2}"))
    conductor = stage.open()
    good, bad = begin(conductor), begin(conductor)
    conductor.take([report(good, 1, 0.9), message("began", bad, step=0)])
    conductor.record(Reported(bad, 1, 1, {"val/top1": 0.1}, 0.25))  # and killed before the scheduler was asked
    stage.open()
    assert statuses(stage)[0.2] == "stopped"


def test_a_report_that_repeats_is_dropped(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    conductor.take([report(trial, 1), report(trial, 1), report(trial, 2)])
    assert [each.step for each in stage.ledger.events(Reported)] == [1, 2]


def test_a_start_is_recorded_with_the_step_that_it_goes_on_from(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    assert stage.ledger.events(TrialStarted) == []  # where it begins is not known yet
    conductor.take([message("began", trial, step=7, refused=["manifest differs"])])
    assert [(each.gang, each.from_step) for each in stage.ledger.events(TrialStarted)] == [("gang-1", 7)]


def test_an_interrupted_sweep_hands_out_nothing_more(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    conductor = stage.open()
    trial = begin(conductor)
    conductor.interrupted_by = 2
    assert conductor.propose() is None
    finish(conductor, trial, report(trial, 1), ended(trial, "stopped"))  # it was let go
    assert statuses(stage) == {0.1: "running"}
    assert handed_out(stage.open()) == [(0.1, 0), (0.2, 0)]


def test_a_failing_observer_costs_no_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def bad(event: Event, state: SweepState) -> None:
        raise RuntimeError("no")

    stage = Stage(tmp_path, experiment(0.1))
    handed_out(stage.open(observers=(bad, lambda event, state: seen.append(event))))
    assert [type(event).__name__ for event in seen] == ["Proposed"]
    assert "an observer failed" in caplog.text


def test_messages_that_are_told_again_are_no_news(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    saved = [message("saved", trial, step=step, path=f"c{step}", sha256=str(step)) for step in (1, 2)]
    lost = message("attempt_failed", trial, failure="worker_lost", message="gone", traceback="")
    again = {**started(trial), "attempt": 2}
    first = [started(trial), message("began", trial, step=0, refused=["damaged"]), report(trial, 1), *saved]
    rest = [report(trial, 2), lost, again, {**report(trial, 3), "attempt": 2}, {**ended(trial), "attempt": 2}]
    for batch in (first, first, first + rest[:2], rest[:2], first + rest, rest):
        conductor.take(batch)
    kinds = [type(body).__name__ for _, body in stage.ledger.read()][2:]
    assert kinds == [
        "TrialStarted",
        "CheckpointRefused",
        "Reported",
        "CheckpointSaved",
        "CheckpointSaved",
        "Reported",
        "AttemptFailed",
        "TrialStarted",
        "Reported",
        "TrialEnded",
    ]


def ran_unheard(stage: Stage, steps: int, *, save_at: int) -> str:
    """A rank that ran on after its driver had been killed: it noted its reports, and nobody recorded them."""
    conductor = stage.open()
    work = conductor.propose()
    assert work is not None
    plan = stage.plan()
    folder = trial_folder(plan, work.planned)
    attempt = Attempt(work.recipe, work.planned.seed, folder=folder, number=work.attempt)
    journal = Journal(work.planned.trial, folder)
    trial = play(attempt, World(), lambda notice: None)
    report, go_on = next(trial), True
    while go_on:
        journal.note(work.attempt, report.step, report.metrics, report.progress)
        go_on = report.step < save_at
        with contextlib.suppress(StopIteration):
            report = trial.send(go_on)
    for step in range(save_at + 1, steps + 1):
        journal.note(work.attempt, step, {"val/top1": 0.0}, step / 4)
    return work.planned.trial


def test_what_no_driver_heard_is_recorded_before_its_trial_goes_on_behind_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.5))
    trial = ran_unheard(stage, 3, save_at=2)  # it reported step 3, too, but will come there again
    stage.run()
    state = stage.state().trials[trial]
    assert (state.status, [each.step for each in state.reports]) == ("done", [1, 2, 3, 4])
    assert [each.from_step for each in stage.ledger.events(TrialStarted)] == [2]
    (tmp_path / "whole").mkdir()
    whole = Stage(tmp_path / "whole", experiment(0.5))
    whole.run()
    assert [each.metrics for each in state.reports] == [each.metrics for each in whole.state().trials[trial].reports]


def test_a_schedulers_word_about_what_no_driver_heard_comes_before_anything_is_started(tmp_path: Path) -> None:
    more = "scheduler: {name: asha, reduction: 2}"
    stage = Stage(tmp_path, experiment(0.9, 0.1, more=more))
    conductor = stage.open()
    good = begin(conductor)
    finish(conductor, good, report(good, 1, 0.9), report(good, 4, 0.9), ended(good))
    bad = ran_unheard(stage, 1, save_at=1)
    assert handed_out(stage.open()) == []
    assert statuses(stage) == {0.9: "done", 0.1: "stopped"}
    assert [each.trial for each in stage.ledger.events(TrialStarted)] == [good]
    assert [each.step for each in stage.state().trials[bad].reports] == [1]


def test_what_a_lost_gang_could_not_say_is_recorded_when_the_next_goes_on_behind_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.5))
    conductor = stage.open()
    work = conductor.propose()
    assert work is not None
    trial = work.planned.trial
    lost = message("attempt_failed", trial, failure="node_lost", message="gone", traceback="")
    conductor.take([started(trial), message("began", trial, step=0), report(trial, 1), lost])
    journal = Journal(trial, trial_folder(stage.plan(), work.planned))
    for step in (1, 2, 3):
        journal.note(1, step, {"val/top1": 0.5}, step / 4)
    again = {**started(trial), "attempt": 2}, {**message("began", trial, step=2), "attempt": 2}
    conductor.take([*again, {**report(trial, 3), "attempt": 2}, {**report(trial, 4), "attempt": 2}])
    assert [(each.attempt, each.step) for each in stage.state().trials[trial].reports] == [
        (1, 1),
        (1, 2),
        (2, 3),
        (2, 4),
    ]
    assert [(each.attempt, each.from_step) for each in stage.ledger.events(TrialStarted)] == [(1, 0), (2, 2)]


def test_a_line_that_was_not_finished_is_left_out(tmp_path: Path) -> None:
    journal = Journal("t", tmp_path)
    assert journal.between(0, 9) == []
    for attempt, step in ((1, 1), (1, 2), (2, 2), (2, 3)):
        journal.note(attempt, step, {"val/top1": step / 10}, step / 4)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"attempt": 2, "st')
    assert journal.between(1, 3) == [
        Reported("t", 2, 2, {"val/top1": 0.2}, 0.5),
        Reported("t", 2, 3, {"val/top1": 0.3}, 0.75),
    ]
