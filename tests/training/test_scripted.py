"""The scripted trial: it does what its script says, and no torch is needed for it."""

import math
import subprocess
import sys

import pytest

from expflow.config.schema import Recipe, Trainer
from expflow.errors import Diverged, Preempted, TrialError
from expflow.tasks.specs import ScriptedSpec
from expflow.training import Attempt, Outcome, World, run_trial


def play(script=(), seed=0, answer=lambda report: True, epochs=3, **arguments):
    """The outcome and the reports of a script."""
    reports = []
    task = ScriptedSpec(name="scripted", script=script, **arguments)
    recipe = Recipe(task=task, trainer=Trainer(epochs=epochs))
    outcome = run_trial(Attempt(recipe, seed), World(), lambda report: reports.append(report) or answer(report))
    return outcome, reports


def test_without_a_script_it_reports_the_curve_once_an_epoch():
    outcome, reports = play(value=2.0, rate=0.3, epochs=4)
    assert outcome == Outcome(4, stopped=False)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert [report.progress for report in reports] == [0.25, 0.5, 0.75, 1.0]
    assert [report.metrics["val/top1"] for report in reports] == [
        2 * (1 - math.exp(-0.3 * step)) for step in (1, 2, 3, 4)
    ]


def test_the_seed_enters_the_curve_through_noise_alone():
    def last(seed, noise):
        return play(seed=seed, noise=noise)[1][-1].metrics["val/top1"]

    assert last(0, 0.0) == last(1, 0.0)
    assert last(0, 0.1) != last(1, 0.1)
    assert last(1, 0.1) == last(1, 0.1)
    assert abs(last(1, 0.1) - last(1, 0.0)) <= 0.1


def test_reports_repeat_and_may_hold_several_metrics():
    _, reports = play([{"report": {"val/top1": 0.5, "train/loss": "curve"}, "repeat": 2}, {"sleep": 0}])
    assert [report.metrics["val/top1"] for report in reports] == [0.5, 0.5]
    assert reports[0].metrics["train/loss"] < reports[1].metrics["train/loss"]


def test_it_stops_when_it_is_told_to():
    outcome, reports = play([{"report": {"a": 1}, "repeat": 5}], answer=lambda report: report.step < 2)
    assert outcome == Outcome(2, stopped=True)
    assert len(reports) == 2


def test_a_no_to_the_last_report_stops_nothing():
    outcome, _ = play(answer=lambda report: report.step < 3)
    assert outcome == Outcome(3, stopped=False)


def test_it_raises_and_diverges_on_command():
    with pytest.raises(TrialError, match="out of cheese"):
        play([{"report": {"a": 1}}, {"raise": "out of cheese"}])
    with pytest.raises(Diverged, match="step 1"):
        play([{"report": {"a": 1}}, {"nan": True}])


def test_it_ends_its_process_on_command_and_needs_no_torch():
    code = """
import sys
from expflow.config.schema import Recipe
from expflow.tasks.specs import ScriptedSpec
from expflow.training import Attempt, World, run_trial

def on_report(report):
    print("torch" in sys.modules, "pytorch_lightning" in sys.modules, flush=True)
    return True

task = ScriptedSpec(name="scripted", script=[{"report": {"a": 1}}, {"exit": 7}])
run_trial(Attempt(Recipe(task=task), 0), World(), on_report)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (7, "False False")


@pytest.mark.parametrize(("asked_at", "step"), [(1, 0), (2, 1), (4, 2)])
def test_it_saves_and_leaves_when_it_has_to(tmp_path, asked_at, step):
    script = [{"report": {"a": 1}, "repeat": 2}, {"sleep": 3600}, {"report": {"a": 1}}]
    recipe = Recipe(task=ScriptedSpec(name="scripted", script=script), trainer=Trainer(epochs=1))
    asked, notices = [], []
    with pytest.raises(Preempted, match=f"asked to leave at step {step}"):
        run_trial(
            Attempt(recipe, 0, folder=tmp_path),
            World(),
            lambda report: True,
            on_notice=notices.append,
            leave=lambda: asked.append(1) or len(asked) >= asked_at,
        )
    assert [notice.step for notice in notices[1:]] == ([step] if step else [])


@pytest.mark.parametrize("number", [1, 2], ids=["without a checkpoint", "with one to go on from"])
def test_an_attempt_removes_what_killed_ones_left_half_written(tmp_path, number):
    task = ScriptedSpec(name="scripted", script=[{"report": {"a": 1}}, {"save": True}, {"report": {"a": 1}}])
    recipe = Recipe(task=task, trainer=Trainer(epochs=1))
    folder = tmp_path / "checkpoints"
    for attempt in range(1, number):
        run_trial(Attempt(recipe, 0, folder=tmp_path, number=attempt), World(), lambda report: False)
    (folder / ".step-000000009-a7.tmp").mkdir(parents=True)
    (folder / ".step-000000001-7.gone").mkdir()
    run_trial(Attempt(recipe, 0, folder=tmp_path, number=number), World(), lambda report: True)
    assert sorted(path.name for path in folder.iterdir()) == ["step-000000001", "step-000000002"]
