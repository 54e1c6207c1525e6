"""Metrics that never come end the sweep with an error; values that are no numbers end nothing but what is decided."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from expflow.errors import ExperimentInvalid, MetricMissing
from expflow.events import AttemptFailed, Report, TrialEnded, TrialReported
from expflow.ledger import load_state
from expflow.sweep.driver import open_sweep
from expflow.sweep.in_process import run_in_process
from expflow.sweep.messages import AttemptFailedMessage, ReportMessage, from_wire, to_wire
from expflow.sweep.metric_check import metric_notes
from expflow.sweep.plan import make_plan
from expflow.sweep.report_journal import ReportJournal
from tests.sweep.runs import Workplace
from tests.sweep.stage import Stage

EXPERIMENT = """\
task:
  name: scripted
  script:
  - {{report: {{{first}}}}}
  - {{report: {{{last}}}}}
trainer: {{epochs: 2}}
sweep:
  space: {{task.value: [0.1, 0.2]}}
  {metric}
{report}
"""
FIRST, LAST = "val/top1: curve, val/loss: 1.5", "val/top1: curve, val/loss: 1.25, fit/loss: 1.0, cost/seconds: 3"


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def experiment(first: str = FIRST, last: str = LAST, metric: str = "metric: val/top1", report: str = "") -> str:
    return EXPERIMENT.format(first=first, last=last, metric=metric, report=report)


def run(folder: Path, text: str, **more):
    (folder / "exp.yaml").write_text(text)
    return run_in_process(make_plan(folder / "exp.yaml", storage=folder / "runs", **more))


def refused(folder: Path, text: str, **more) -> list[str]:
    """What the run says that ends with an error, with the folder left out."""
    with pytest.raises(ExperimentInvalid) as error:
        run(folder, text, **more)
    assert error.value.exit_code == 2
    return [str(problem).replace(f"{folder}/", "") for problem in error.value.problems]


def figures(*metrics: str) -> str:
    return f"report: {{figures: [{', '.join(f'{{x: task.value, y: {metric}}}' for metric in metrics)}]}}"


@pytest.mark.parametrize("alone", [False, True])
def test_a_misspelt_metric_ends_the_sweep_at_the_first_report(tmp_path: Path, alone: bool) -> None:
    (problem,) = refused(tmp_path, experiment(metric="metric: val/topp1\n  mode: max"), alone=alone)
    assert problem == (
        "exp.yaml:9:11: sweep.metric: no trial reports val/topp1; the first validation reported val/top1, val/loss"
    )
    (folder,) = (tmp_path / "runs").iterdir()
    (trial,) = load_state(folder).trials.values()
    assert len(trial.reports) == 1
    assert not trial.ended


def test_the_corrected_file_goes_on_and_what_was_known_is_checked_at_once(tmp_path: Path) -> None:
    wrong = experiment(metric="metric: val/topp1\n  mode: max")
    refused(tmp_path, wrong)
    assert run(tmp_path, experiment()).exit_code == 0
    (problem,) = refused(tmp_path, wrong.replace("[0.1, 0.2]", "[0.1, 0.2, 0.3]"))
    assert "no trial reports val/topp1" in problem


@pytest.mark.parametrize(
    ("report", "key", "place"),
    [
        (
            figures("val/lss"),
            "report.figures.0.y: no trial reports val/lss; the first validation reported val/loss",
            10,
        ),
        (
            figures("val/loss", "fit/los"),
            "report.figures.1.y: no trial reports fit/los; the first trial that is done reported fit/loss",
            10,
        ),
        (
            "report:\n  contrasts:\n"
            "  - {metric: cost/secs, of: {task.value: 0.1}, against: {task.value: 0.2}, expect: lower}",
            "report.contrasts.0.metric: no trial reports cost/secs; the first trial that is done reported cost/seconds",
            12,
        ),
    ],
)
def test_figures_and_contrasts_of_metrics_that_never_come(tmp_path: Path, report: str, key: str, place: int) -> None:
    (problem,) = refused(tmp_path, experiment(report=report))
    assert problem.startswith(f"exp.yaml:{place}:")
    assert key in problem


def test_what_only_the_last_report_has_is_waited_for(tmp_path: Path) -> None:
    assert run(tmp_path, experiment(report=figures("fit/loss", "cost/seconds"))).exit_code == 0


def test_results_that_lack_the_metric_are_no_success_when_nothing_is_left_to_run(tmp_path: Path) -> None:
    run(tmp_path, experiment())
    (problem,) = refused(tmp_path, experiment(metric="metric: val/topp1\n  mode: max"))
    assert "sweep.metric: no trial reports val/topp1; the first trial that is done reported val/top1" in problem
    (problem,) = refused(tmp_path, experiment(report=figures("fit/los")))
    assert "no trial reports fit/los" in problem


def test_figures_are_no_matter_of_a_single_trial_nor_of_several_tasks(tmp_path: Path) -> None:
    assert run(tmp_path, experiment(report=figures("val/lss")), alone=True).exit_code == 0
    several = experiment(report=figures("val/lss").replace("task.value", "task"))
    tasks = "{task: [{name: scripted, value: 0.1}, {name: scripted, value: 0.2}]}"
    several = several.replace("{task.value: [0.1, 0.2]}", tasks)
    assert run(tmp_path, several).exit_code == 0


def test_a_single_trial_without_a_named_metric_says_that_nothing_is_judged(tmp_path: Path) -> None:
    text = experiment(first="train_loss: 2", last="train_loss: 1").split("sweep:")[0]
    result = run(tmp_path, text)
    assert result.exit_code == 0
    assert result.remarks == (
        "nothing is judged: no trial reported val/top1; say by `sweep.metric` which of these counts: train_loss",
    )
    assert run(tmp_path, text).remarks == ()  # nothing has run


def test_a_sweep_without_a_named_metric_needs_the_usual_one(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, experiment(first="train_loss: 2", last="train_loss: 1", metric="seeds: 1"))
    assert "sweep.metric: no trial reports val/top1; the first validation reported train_loss" in problem


def test_a_recipe_that_watches_what_is_not_there_ends_the_sweep(tmp_path: Path, monkeypatch) -> None:
    key = "trainer.early_stopping.metric"

    def raises(attempt, world, on_report, **more):
        raise MetricMissing(f"{key}: no trial reports val/lss; the first validation reported val/loss")

    monkeypatch.setattr("expflow.sweep.in_process.run_trial", raises)
    text = experiment().replace("epochs: 2", "epochs: 2, early_stopping: {metric: val/lss, mode: min}")
    (problem,) = refused(tmp_path, text)
    assert problem == f"exp.yaml:6:47: {key}: no trial reports val/lss; the first validation reported val/loss"
    (trial,) = load_state(tmp_path / "runs" / "exp").trials.values()
    assert trial.failures[-1].failure == "metric_missing"


def test_the_error_of_a_metric_that_is_watched_keeps_its_class() -> None:
    failed = AttemptFailedMessage.from_error("t", 1, MetricMissing("schedule.metric: none"), seconds=1.0)
    assert (failed.failure, failed.traceback) == ("metric_missing", "")


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(tmp_path)
    yield place
    place.leave()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_command_ends_at_the_first_validation_with_what_there_is(workplace: Workplace) -> None:
    report = "{report: {val/top1: curve, val/loss: 1.5}"
    script = f"task: {{name: scripted, script: [{report}}}, {{hang: true}}, {report}, repeat: 39}}]}}\n"
    space = "trainer: {epochs: 40}\nsweep: {space: {task.value: [0.1, 0.2, 0.3]}, metric: val/topp1, mode: max}\n"
    workplace.write(script + space + figures("val/lss"))
    output = workplace.run("sweep", "exp.yaml", code=2)
    assert ": sweep.metric: no trial reports val/topp1; the first validation reported val/top1," in output
    assert "report.figures.0.y: no trial reports val/lss; the first validation reported val/loss, val/top1" in output
    assert not any(trial.ended for trial in load_state(workplace.results).trials.values())
    workplace.write((script + space).replace("topp1", "top1").replace("{hang: true}, ", ""))
    assert "[3/3] done" in workplace.run("sweep", "exp.yaml")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_command_ends_where_a_recipe_watches_what_never_comes(workplace: Workplace) -> None:
    recipe = "data: {name: digits, batch_size: 512}\nmodel: {name: mlp, hidden: 8}\ntask: classification\n"
    more = "optimizer: {name: sgd, lr: 0.1}\ntrainer: {epochs: 2}\nsweep: {space: {optimizer.lr: [0.1, 0.2]}}\n"
    workplace.write(recipe + "schedule: {name: plateau, metric: val/lss, mode: min}\n" + more)
    output = workplace.run("sweep", "--no-check", "exp.yaml", code=2)
    assert "exp.yaml:4:35: schedule.metric: no trial reports val/lss; the first validation reported val/loss" in output


# values that are no numbers


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_side_metric_that_is_no_number_is_missing_and_the_trial_is_good(tmp_path: Path, value: str) -> None:
    result = run(tmp_path, experiment(first=f"{FIRST}, val/f1_rare: {value}", last=f"{LAST}, val/f1_rare: 0.5"))
    assert result.exit_code == 0
    trials = result.state.plan_trials()
    assert [trial.status for trial in trials] == ["done", "done"]
    assert [report.missing for report in trials[0].reports] == [["val/f1_rare"], []]
    assert "val/f1_rare" not in trials[0].reports[0].metrics
    assert result.remarks == (
        f"val/f1_rare was no finite number in 2 reports of 2 trials (first in {trials[0].trial}, step 1); these values "
        "are left out",
    )


@pytest.mark.parametrize(
    "more",
    [
        {"first": "val/top1: nan"},
        {"first": f"{FIRST}, val/f1: nan", "metric": "metric: val/f1"},
        {"first": "val/top1: curve, val/loss: inf"},
        {"first": "val/top1: curve, loss: nan"},
        {"first": f"{FIRST}, val_loss: nan"},
        {"last": "val/top1: curve, fit/loss: nan"},
    ],
)
def test_a_loss_and_what_is_judged_decide(tmp_path: Path, more: dict[str, str]) -> None:
    result = run(tmp_path, experiment(**more))
    assert {trial.failures[-1].failure for trial in result.state.plan_trials()} == {"diverged"}


def test_what_a_recipe_watches_decides(tmp_path: Path) -> None:
    text = experiment(first=f"{FIRST}, val/f1: nan")
    result = run(tmp_path, text.replace("epochs: 2", "epochs: 2, early_stopping: {metric: val/f1, mode: max}"))
    assert {trial.failures[-1].failure for trial in result.state.plan_trials()} == {"diverged"}


def test_a_searcher_hears_of_no_divergence(tmp_path: Path) -> None:
    stage = Stage(tmp_path, experiment(first=f"{FIRST}, val/f1: nan"))
    stage.run()
    assert {event.status for event in stage.ledger.events(TrialEnded)} == {"done"}
    assert not stage.ledger.events(AttemptFailed)


def test_missing_metrics_travel_and_are_kept(tmp_path: Path) -> None:
    message = ReportMessage.from_report("t", 1, Report(3, {"a": 1.0}, 0.5, ["b"]))
    assert from_wire(to_wire([message])) == [message]
    assert message.missing == ("b",)
    journal = ReportJournal("t", tmp_path)
    journal.write(1, 3, {"a": 1.0}, 0.5, ("b",))
    journal.write(1, 4, {"a": 1.0}, 0.5)
    assert [report.missing for report in journal.between(0, 4)] == [["b"], []]


def test_reports_without_gaps_are_stored_as_before() -> None:
    assert "missing" not in TrialReported("t", 1, 1, {"a": 1.0}).to_json()
    assert TrialReported("t", 1, 1, {"a": 1.0}, 0.0, ["b"]).to_json()["missing"] == ["b"]


# what a driver leaves out of the ledger


def test_a_last_line_that_was_not_finished_is_said_once(tmp_path: Path) -> None:
    text = experiment()
    run(tmp_path, text)
    segment = max((tmp_path / "runs" / "exp" / "ledger").glob("*.jsonl"))
    for seal in segment.parent.glob(f"{segment.stem}*seal*"):
        seal.unlink()
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-1]) + b'{"at": 1')
    remarks = run(tmp_path, text).remarks
    assert remarks == (f"{segment}:{len(lines)}: the last record was not finished and is left out (8 bytes)",)
    assert run(tmp_path, text).remarks == ()


def test_notes_of_a_state_with_all_reports(tmp_path: Path) -> None:
    plan = make_plan(_file(tmp_path), storage=tmp_path / "runs")
    with open_sweep(plan, tracking="") as conductor:
        assert list(metric_notes(plan, conductor.state)) == []


def _file(folder: Path) -> Path:
    (folder / "exp.yaml").write_text(experiment())
    return folder / "exp.yaml"
