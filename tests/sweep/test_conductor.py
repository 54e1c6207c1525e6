"""The conductor without Ray: what is proposed, recorded and decided, and what a further driver makes of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from unittest import mock

import pytest

from expflow.errors import ExperimentInvalid, Problem
from expflow.events import (
    AttemptFailed,
    Event,
    SchedulerDecided,
    TrialEnded,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from expflow.ledger import SweepState
from expflow.sweep.batch_checks import RankChecks
from expflow.sweep.conductor import Conductor
from expflow.sweep.messages import BatchTriedMessage, Message
from expflow.sweep.report_journal import FILE, ReportJournal
from expflow.sweep.result_files import make_trial_folder
from expflow.training.contract import Attempt, BatchFinding, World
from expflow.training.scripted import play
from tests.sweep.gang_messages import began, ended, failed, lost, report, saved, started
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


def handed_out(conductor: Conductor) -> list[tuple[float, int]]:
    """Value and seed of everything that is handed out without anything coming back."""
    attempts = []
    while (attempt := conductor.propose()) is not None:
        attempts.append((attempt.planned.values["task.value"], attempt.planned.seed))
    return attempts


def begin(conductor: Conductor) -> str:
    attempt = conductor.propose()
    assert attempt is not None
    conductor.take([started(attempt.planned.trial)])
    return attempt.planned.trial


def finish(conductor: Conductor, trial: str, *messages: Message) -> None:
    conductor.take([*messages] or [report(trial, 1), report(trial, 4), ended(trial)])
    conductor.returned(trial)


def statuses(stage: Stage) -> dict[float, str]:
    return {trial.values["task.value"]: trial.status for trial in stage.state().plan_trials()}


def test_trials_are_proposed_in_the_order_of_the_file_and_each_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, 0.3, more="seeds: 2"))
    wanted = [(value, seed) for value in (0.1, 0.2, 0.3) for seed in (0, 1)]
    assert handed_out(stage.open()) == wanted
    assert [(proposal.values["task.value"], proposal.seed) for proposal in stage.ledger.events(TrialProposed)] == wanted
    assert handed_out(stage.open()) == wanted  # none of them has ended
    assert len(stage.ledger.events(TrialProposed)) == 6


def test_finished_trials_are_answered_from_the_ledger(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    conductor = stage.open()
    finish(conductor, begin(conductor))
    cut_off = begin(conductor)
    conductor.take([report(cut_off, 1)])

    again = stage.open()
    attempt = again.propose()
    assert attempt is not None
    assert (attempt.planned.trial, attempt.attempt) == (cut_off, 2)
    assert again.propose() is None
    assert not stage.open().state.running  # their driver is gone


def test_more_seeds_and_another_value_are_all_that_runs(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    stage.run()
    stage.write(experiment(0.3, 0.2, more="seeds: 2"))
    assert handed_out(stage.open()) == [(0.3, 0), (0.3, 1), (0.2, 1)]
    state = stage.state()
    assert [(trial.values["task.value"], trial.seed) for trial in state.plan_trials()] == [
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
    assert [failure.failure for failure in stage.ledger.events(AttemptFailed)] == ["code"]


def test_a_failed_trial_that_is_tried_again_is_recorded_as_a_new_attempt(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    finish(conductor, trial, *failed(trial))
    again = stage.open(retry_failed=True)
    assert handed_out(again) == [(0.1, 0)]
    again.take([started(trial, 2), report(trial, 1, attempt=2), report(trial, 4, attempt=2), ended(trial, attempt=2)])
    assert statuses(stage) == {0.1: "done"}
    assert [start.attempt for start in stage.ledger.events(TrialStarted)] == [1, 2]


def test_a_stop_is_written_before_it_is_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, more="scheduler: {name: asha, reduction: 2}"))
    conductor = stage.open()
    good, bad = begin(conductor), begin(conductor)
    conductor.take([report(good, 1, 0.9)])
    assert conductor.goes_on(good)
    conductor.take([report(bad, 1, 0.1)])
    kinds = [type(body).__name__ for _, body in stage.ledger.read()][-2:]
    assert kinds == ["SchedulerDecided", "TrialEnded"]
    assert not conductor.goes_on(bad)
    conductor.take([ended(bad, "stopped")])  # what the gang sends afterwards says nothing new
    assert len(stage.ledger.events(TrialEnded)) == 1
    assert statuses(stage) == {0.1: "running", 0.2: "stopped"}


def test_a_recorded_stop_wins_over_what_the_scheduler_would_say_now(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    conductor.take([report(trial, 1)])
    conductor.record(SchedulerDecided(trial, 1, 1, "stop"))  # and killed right here
    assert handed_out(stage.open()) == []
    assert statuses(stage) == {0.1: "stopped"}


def test_a_report_that_came_before_its_decision_is_decided_by_the_next_driver(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2, more="scheduler: {name: asha, reduction: 2}"))
    conductor = stage.open()
    good, bad = begin(conductor), begin(conductor)
    conductor.take([report(good, 1, 0.9), began(bad, 0)])
    conductor.record(TrialReported(bad, 1, 1, {"val/top1": 0.1}, 0.25))  # and killed before the scheduler was asked
    stage.open()
    assert statuses(stage)[0.2] == "stopped"


def test_a_report_that_repeats_is_dropped(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    conductor.take([report(trial, 1), report(trial, 1), report(trial, 2)])
    assert [report.step for report in stage.ledger.events(TrialReported)] == [1, 2]


def test_a_start_is_recorded_with_the_step_that_it_goes_on_from(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    assert stage.ledger.events(TrialStarted) == []  # where it begins is not known yet
    conductor.take([began(trial, 7, "manifest differs")])
    assert [(start.gang, start.from_step) for start in stage.ledger.events(TrialStarted)] == [("gang-1", 7)]


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
    assert [type(event).__name__ for event in seen] == ["TrialProposed"]
    assert "an observer failed" in caplog.text


def test_messages_that_are_told_again_are_no_news(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.1))
    conductor = stage.open()
    trial = begin(conductor)
    first = [started(trial), began(trial, 0, "damaged"), report(trial, 1), saved(trial, 1), saved(trial, 2)]
    second = [started(trial, 2), report(trial, 3, attempt=2), ended(trial, attempt=2)]
    rest = [report(trial, 2), lost(trial), *second]
    for batch in (first, first, first + rest[:2], rest[:2], first + rest, rest):
        conductor.take(batch)
    kinds = [type(body).__name__ for _, body in stage.ledger.read()][2:]
    assert kinds == [
        "TrialStarted",
        "CheckpointRefused",
        "TrialReported",
        "CheckpointSaved",
        "CheckpointSaved",
        "TrialReported",
        "AttemptFailed",
        "TrialStarted",
        "TrialReported",
        "TrialEnded",
    ]


def ran_unheard(stage: Stage, steps: int, *, save_at: int) -> str:
    """A rank that ran on after its driver had been killed: it noted its reports, and nobody recorded them."""
    conductor = stage.open()
    planned = conductor.propose()
    assert planned is not None
    plan = stage.plan()
    folder = make_trial_folder(plan, planned.planned)
    attempt = Attempt(planned.recipe, planned.planned.seed, folder=folder, number=planned.attempt)
    journal = ReportJournal(planned.planned.trial, folder)
    trial = play(attempt, World(), lambda notice: None)
    report, go_on = next(trial), True
    while go_on:
        journal.write(planned.attempt, report.step, report.metrics, report.progress)
        go_on = report.step < save_at
        with contextlib.suppress(StopIteration):
            report = trial.send(go_on)
    for step in range(save_at + 1, steps + 1):
        journal.write(planned.attempt, step, {"val/top1": 0.0}, step / 4)
    return planned.planned.trial


def test_what_no_driver_heard_is_recorded_before_its_trial_goes_on_behind_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.5))
    trial = ran_unheard(stage, 3, save_at=2)  # it reported step 3, too, but will come there again
    stage.run()
    state = stage.state().trials[trial]
    assert (state.status, [record.step for record in state.reports]) == ("done", [1, 2, 3, 4])
    assert [start.from_step for start in stage.ledger.events(TrialStarted)] == [2]
    (tmp_path / "whole").mkdir()
    whole = Stage(tmp_path / "whole", experiment(0.5))
    whole.run()
    assert [record.metrics for record in state.reports] == [
        record.metrics for record in whole.state().trials[trial].reports
    ]


def test_a_leftover_on_one_disk_is_recorded_with_the_attempt_that_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With results in a store, the next driver may find no such folder, and begin the trial anew."""
    monkeypatch.setattr("expflow.sweep.trial_checkpoints.session_of", lambda folder: mock.MagicMock())
    stage = Stage(tmp_path, experiment(0.5))
    trial = ran_unheard(stage, 3, save_at=2)
    conductor = stage.open()
    assert not stage.ledger.events(TrialReported)
    assert conductor.propose() is not None
    conductor.take([started(trial), began(trial, 2), report(trial, 3)])
    assert [(record.attempt, record.step) for record in stage.ledger.events(TrialReported)] == [(1, 1), (1, 2), (1, 3)]
    assert [start.from_step for start in stage.ledger.events(TrialStarted)] == [2]


def test_a_schedulers_word_about_what_no_driver_heard_comes_before_anything_is_started(tmp_path: Path) -> None:
    more = "scheduler: {name: asha, reduction: 2}"
    stage = Stage(tmp_path, experiment(0.9, 0.1, more=more))
    conductor = stage.open()
    good = begin(conductor)
    finish(conductor, good, report(good, 1, 0.9), report(good, 4, 0.9), ended(good))
    bad = ran_unheard(stage, 1, save_at=1)
    assert handed_out(stage.open()) == []
    assert statuses(stage) == {0.9: "done", 0.1: "stopped"}
    assert [start.trial for start in stage.ledger.events(TrialStarted)] == [good]
    assert [record.step for record in stage.state().trials[bad].reports] == [1]


def test_what_a_lost_gang_could_not_say_is_recorded_when_the_next_goes_on_behind_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(0.5))
    conductor = stage.open()
    planned = conductor.propose()
    assert planned is not None
    trial = planned.planned.trial
    conductor.take([started(trial), began(trial, 0), report(trial, 1), lost(trial, "node_lost")])
    journal = ReportJournal(trial, make_trial_folder(stage.plan(), planned.planned))
    for step in (1, 2, 3):
        journal.write(1, step, {"val/top1": 0.5}, step / 4)
    again = [started(trial, 2), began(trial, 2, attempt=2)]
    conductor.take([*again, report(trial, 3, attempt=2), report(trial, 4, attempt=2)])
    assert [(record.attempt, record.step) for record in stage.state().trials[trial].reports] == [
        (1, 1),
        (1, 2),
        (2, 3),
        (2, 4),
    ]
    assert [(start.attempt, start.from_step) for start in stage.ledger.events(TrialStarted)] == [(1, 0), (2, 2)]


def test_a_line_that_was_not_finished_is_left_out(tmp_path: Path) -> None:
    journal = ReportJournal("t", tmp_path)
    assert journal.between(0, 9) == []
    for attempt, step in ((1, 1), (1, 2), (2, 2), (2, 3)):
        journal.write(attempt, step, {"val/top1": step / 10}, step / 4)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"attempt": 2, "st')
    assert journal.between(1, 3) == [
        TrialReported("t", 2, 2, {"val/top1": 0.2}, 0.5),
        TrialReported("t", 2, 3, {"val/top1": 0.3}, 0.75),
    ]


@pytest.fixture
def refused_batch(monkeypatch: pytest.MonkeyPatch) -> BatchFinding:
    """A batch that fails, of networks that a scripted task does not have."""
    error = ExperimentInvalid([Problem("exp.yaml", 2, 8, "model", "one batch fails")])
    monkeypatch.setattr(RankChecks, "take", lambda checks, trial, finding: error if finding.failure else None)
    return BatchFinding(failure="RuntimeError: no")


def fail_batch(conductor: Conductor, trial: str, finding: BatchFinding) -> None:
    conductor.take([BatchTriedMessage.from_finding(trial, 1, finding), *failed(trial)])
    conductor.returned(trial)


def test_a_batch_that_fails_ends_the_sweep_and_begins_no_trial(tmp_path: Path, refused_batch: BatchFinding) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    conductor = stage.open()
    fail_batch(conductor, begin(conductor), refused_batch)
    assert isinstance(conductor.error, ExperimentInvalid)
    assert conductor.leaving
    assert "one batch fails" in conductor.halted
    assert not stage.ledger.events(TrialStarted, AttemptFailed, TrialEnded)
    assert handed_out(stage.open()) == [(0.1, 0), (0.2, 0)]  # mended, the same command tries again


def test_a_batch_that_fails_among_trials_that_train_is_that_trials_failure(
    tmp_path: Path, refused_batch: BatchFinding
) -> None:
    stage = Stage(tmp_path, experiment(0.1, 0.2))
    conductor = stage.open()
    finish(conductor, begin(conductor))
    fail_batch(conductor, begin(conductor), refused_batch)
    assert conductor.error is None
    assert statuses(stage) == {0.1: "done", 0.2: "failed"}
