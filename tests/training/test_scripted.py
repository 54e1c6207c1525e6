"""The scripted trial: it does what its script says, and no torch is needed for it."""

import math
import subprocess
import sys

import pytest

from expflow.config.schema import Recipe, Trainer
from expflow.errors import Diverged, TrialError
from expflow.tasks.specs import Scripted
from expflow.training import Attempt, Outcome, World, run_trial


def play(script=(), seed=0, answer=lambda report: True, epochs=3, **arguments):
    """The outcome and the reports of a script."""
    reports = []
    task = Scripted(name="scripted", script=script, **arguments)
    recipe = Recipe(task=task, trainer=Trainer(epochs=epochs))
    outcome = run_trial(Attempt(recipe, seed), World(), lambda report: reports.append(report) or answer(report))
    return outcome, reports


def test_without_a_script_it_reports_the_curve_once_an_epoch():
    outcome, reports = play(value=2.0, rate=0.3, epochs=4)
    assert outcome == Outcome(4, stopped=False)
    assert [each.step for each in reports] == [1, 2, 3, 4]
    assert [each.progress for each in reports] == [0.25, 0.5, 0.75, 1.0]
    assert [each.metrics["val/top1"] for each in reports] == [2 * (1 - math.exp(-0.3 * step)) for step in (1, 2, 3, 4)]


def test_the_seed_enters_the_curve_through_noise_alone():
    def last(seed, noise):
        return play(seed=seed, noise=noise)[1][-1].metrics["val/top1"]

    assert last(0, 0.0) == last(1, 0.0)
    assert last(0, 0.1) != last(1, 0.1)
    assert last(1, 0.1) == last(1, 0.1)
    assert abs(last(1, 0.1) - last(1, 0.0)) <= 0.1


def test_reports_repeat_and_may_hold_several_metrics():
    _, reports = play([{"report": {"val/top1": 0.5, "train/loss": "curve"}, "repeat": 2}, {"sleep": 0}])
    assert [each.metrics["val/top1"] for each in reports] == [0.5, 0.5]
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
from expflow.tasks.specs import Scripted
from expflow.training import Attempt, World, run_trial

def on_report(report):
    print("torch" in sys.modules, "pytorch_lightning" in sys.modules, flush=True)
    return True

task = Scripted(name="scripted", script=[{"report": {"a": 1}}, {"exit": 7}])
run_trial(Attempt(Recipe(task=task), 0), World(), on_report)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (7, "False False")
