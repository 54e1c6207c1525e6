"""Which networks `plan` tries, what it refuses with which place in the file, and what it remembers."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from expflow import cli
from expflow.config import load
from expflow.errors import ExperimentInvalid
from expflow.ledger import load_state
from expflow.sweep import batch_checks, tried_networks
from expflow.sweep.batch_checks import RankChecks, try_batches
from expflow.sweep.plan import make_plan
from expflow.sweep.trial_expansion import planned_trials
from expflow.sweep.tried_networks import batch_check, rank_batches
from expflow.training.contract import BatchCheck, BatchFinding
from tests.sweep.runs import Workplace

BASE = """\
data: {name: digits, batch_size: 64}
model: {name: mlp, hidden: 8}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 1}
"""

NET = """\
from torch import nn


class Net(nn.Sequential):
    def __init__(self, in_channels, num_classes, image_size, width: int = 4, scores: int = 0):
        super().__init__(nn.Flatten(), nn.Linear(in_channels * 64, width), nn.Linear(width, scores or num_classes))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    (tmp_path / "my_net.py").write_text(NET)
    return tmp_path


@pytest.fixture
def tried(monkeypatch):
    """The recipes whose batches were tried; none is trained, and every one reports what a classification does."""
    recipes = []

    def check_batches(check, attempt, world):
        recipes.append((attempt.recipe, check))
        return BatchFinding(("train/loss", "train/top1", "val/loss", "val/top1", "progress/epoch"))

    monkeypatch.setattr("expflow.training.batch_check.check_batches", check_batches)
    return recipes


def plan_of(folder, text, sets=()):
    (folder / "exp.yaml").write_text(text)
    return make_plan(folder / "exp.yaml", sets)


def result(folder, text, sets=()):
    plan = plan_of(folder, text, sets)
    return try_batches(plan, planned_trials(plan))


def problems(folder, text, sets=()):
    with pytest.raises(ExperimentInvalid) as error:
        result(folder, text, sets)
    return [str(problem).replace(f"{folder}/", "") for problem in error.value.problems]


def expflow(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def test_networks_that_differ_in_real_numbers_alone_are_tried_once(place, tried):
    space = "sweep: {space: {optimizer.lr: [0.1, 0.2, 0.3], model.hidden: [8, 16]}, seeds: 3}\n"
    assert result(place, BASE + space).tried == 2
    assert [recipe.model.hidden for recipe, _ in tried] == [8, 16]


def test_what_was_tried_is_remembered_until_something_changes(place, tried):
    own = BASE.replace("{name: mlp, hidden: 8}", '{name: "my_net:Net"}')
    assert (result(place, own).tried, result(place, own).known) == (1, 1)
    (place / "my_net.py").write_text(NET + "# another one\n")
    assert result(place, own).tried == 1
    assert result(place, own, ["model.width=5"]).tried == 1
    assert result(place, own, ["trainer.epochs=5"]).known == 1  # budgets and seeds make no other network


@pytest.mark.usefixtures("tried")
def test_other_versions_are_tried_anew(place, monkeypatch):
    result(place, BASE)
    monkeypatch.setattr(tried_networks, "package_versions", lambda: {"torch": "0"})
    assert result(place, BASE).tried == 1


def test_what_fails_is_not_remembered(place):
    text = BASE.replace("{name: mlp, hidden: 8}", '{name: "my_net:Net", scores: 1000}')
    for _ in range(2):
        (problem,) = problems(place, text)
        assert problem.startswith("exp.yaml:2:8: model: one batch of training and one of validation fail: the network")
        assert "shape (8, 1000) for 8 images of 10 classes" in problem


def test_one_reason_in_several_configs_is_one_error(place):
    text = BASE.replace("{name: mlp, hidden: 8}", '{name: "my_net:Net", scores: 2}')
    (problem,) = problems(place, text + "sweep: {space: {model.width: [4, 5, 6]}}\n")
    assert problem.endswith("(in the config width=4; the same in width=5, width=6)")


def test_a_last_batch_of_one_names_the_key_that_helps(place):
    text = BASE.replace("batch_size: 64", "batch_size: 433").replace("hidden: 8", "hidden: 8, norm: batch")
    (problem,) = problems(place, text)
    assert problem.startswith("exp.yaml:1:7: data.last: the last batch of an epoch is one sample (1,300 = 3 x 433 + 1)")
    assert "data.last: drop leaves it out, pad fills it up" in problem
    for last in ("drop", "pad"):
        assert result(place, text, [f"data.last={last}"]).tried == 1
    assert result(place, text, ["model.norm=none"]).tried == 1


def test_a_batch_of_one_in_each_rank_is_one_too(place):
    text = BASE.replace("batch_size: 64", "batch_size: 4").replace("hidden: 8", "hidden: 8, norm: batch")
    (problem,) = problems(place, text + "resources: {ranks: 4}\n")
    assert "data.batch_size: a batch of one sample in each rank fails" in problem
    text = text.replace("batch_size: 4", "batch_size: 324")
    (problem,) = problems(place, text + "resources: {ranks: 4}\n")
    assert "the last batch of an epoch is 4 samples, one in each rank (1,300 = 4 x 324 + 4)" in problem


@pytest.mark.parametrize(
    ("data", "samples", "ranks", "sizes"),
    [
        ("batch_size: 64", 1300, 1, {64, 20}),
        ("batch_size: 433", 1300, 1, {433, 1}),
        ("batch_size: 433, last: drop", 1300, 1, {433}),
        ("batch_size: 433, last: pad", 1300, 1, {433}),
        ("batch_size: 2", 10, 2, {1}),
        ("batch_size: 8", 10, 2, {4, 1}),
        ("batch_size: all", 10, 1, {10}),
        ("batch_size: 64", 10, 1, {10}),
        ("batch_size: 64, last: drop", 10, 1, set()),
        ("batch_size: 64, last: pad", 10, 1, {64}),
    ],
)
def test_the_sizes_of_batches(tmp_path, data, samples, ranks, sizes):
    file = tmp_path / "exp.yaml"
    file.write_text(BASE.replace("batch_size: 64", data))
    recipe = load(file).experiment.recipe
    assert rank_batches(recipe, samples, ranks) == sizes
    assert batch_check(recipe, samples, ranks).batch_of_one == (1 in sizes)


def test_statistics_over_all_ranks_need_no_two_samples_in_each(tmp_path):
    file = tmp_path / "exp.yaml"
    file.write_text(BASE.replace("batch_size: 64", "batch_size: 2").replace("epochs: 1", "sync_batchnorm: true"))
    assert batch_check(load(file).experiment.recipe, 10, 2) == BatchCheck(1, batch_of_one=False, ranks=2)


@pytest.mark.usefixtures("tried")
def test_a_metric_that_does_not_come_is_said_where_it_is_named(place):
    text = BASE + (
        "sweep:\n  space: {model.hidden: [8, 16]}\n  metric: val/accuracy\n"
        "report:\n  figures:\n    - {x: model.hidden, y: val/f1}\n"
    )
    first, second = problems(place, text)
    assert first.startswith("exp.yaml:9:11: sweep.metric: no trial reports val/accuracy")
    assert first.endswith("after a validation there are: val/loss, val/top1, train/loss, train/top1")
    assert "no trial reports val/f1" in second
    assert problems(place, text) == [first, second]  # also from what is remembered


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "trainer: {epochs: 1}",
            "trainer: {epochs: 1, early_stopping: {metric: val/lss, mode: min}}",
            "trainer.early_stopping.metric",
        ),
        ("task:", "schedule: {name: plateau, metric: val/lss, mode: min}\ntask:", "schedule.metric"),
    ],
)
def test_a_metric_that_a_recipe_watches_is_said_where_it_is_named(place, old, new, expected):
    assert old in BASE
    (problem,) = problems(place, BASE.replace(old, new) + "sweep: {space: {model.hidden: [8]}}\n")
    message = "no trial reports val/lss; the first validation reported val/loss, "
    assert f": {expected}: {message}" in problem


@pytest.mark.usefixtures("tried")
def test_metrics_of_the_end_are_expected(place):
    text = BASE + "sweep: {space: {model.hidden: [8, 16]}, metric: fit/loss}\n"
    assert result(place, text + "report: {figures: [{x: model.hidden, y: cost/macs}]}\n").tried == 2


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("batch_size: 64, val_fraction: 0", "data: there are no val samples, and val/top1 is what is judged"),
        ("batch_size: 4096, last: drop", "data.batch_size: an epoch has no batch: 1,300 samples do not fill one of"),
    ],
)
def test_an_empty_split_is_said(place, data, expected):
    text = BASE.replace("batch_size: 64", data) + "sweep: {space: {model.hidden: [8]}}\n"
    (problem,) = problems(place, text)
    assert expected in problem


def test_a_scripted_task_is_not_tried(place, tried):
    assert result(place, "task: scripted\ntrainer: {epochs: 1}\n").tried == 0
    assert tried == []


def test_a_network_that_cannot_be_tried_is_said_and_planned(place, monkeypatch, capsys):
    monkeypatch.setattr(
        "expflow.training.batch_check.check_batches", lambda *_: BatchFinding(skipped="one batch takes more than 20 s")
    )
    (place / "exp.yaml").write_text(BASE + "sweep: {space: {model.hidden: [8, 16]}}\n")
    code, out, _ = expflow(capsys, "plan", "exp.yaml", "--no-time")
    assert code == 0
    assert "note: no batch was tried of hidden=8, hidden=16: one batch takes more than 20 s" in out


def test_the_others_are_named_when_the_time_is_over(place, tried, monkeypatch):
    monkeypatch.setattr(batch_checks, "ALL_SECONDS", -1.0)
    text = BASE + "sweep: {space: {model.hidden: [8, 16]}}\n"
    assert result(place, text).notes == ("no batch was tried of hidden=8, hidden=16: the others took -1 s",)
    assert tried == []


def test_plan_refuses_before_it_measures_and_can_be_told_not_to_look(place, tried, capsys):
    (place / "exp.yaml").write_text(BASE + "sweep: {space: {model.hidden: [8]}, metric: val/none, mode: max}\n")
    code, out, error = expflow(capsys, "plan", "exp.yaml", "--no-time")
    assert code == 2
    assert "no trial reports val/none" in error
    assert "Traceback" not in out + error
    assert expflow(capsys, "plan", "exp.yaml", "--no-time", "--no-check")[0] == 0
    assert len(tried) == 1


@pytest.fixture
def workplace(tmp_path):
    place = Workplace(tmp_path)
    yield place
    place.leave()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_ends_before_its_first_trial_and_goes_on_once_it_is_mended(workplace):
    wrong = NET.replace("scores: int = 0", "scores: int = 1000")
    (workplace.folder / "my_net.py").write_text(wrong)
    own = BASE.replace("{name: mlp, hidden: 8}", '{name: "my_net:Net"}')
    workplace.write(own + "sweep: {space: {optimizer.lr: [0.1, 0.2]}}\n")
    refused = workplace.run("sweep", "exp.yaml", code=2)
    assert "error: exp.yaml:2:8: model: one batch of training and one of validation fail: the network gives" in refused
    assert "Traceback" not in refused
    assert [trial.attempt for trial in load_state(workplace.results).trials.values()] in ([0], [0, 0])
    (workplace.folder / "my_net.py").write_text(NET)
    assert "[2/2] done" in workplace.run("sweep", "exp.yaml")  # nothing was made by the other code
    assert len(list((workplace.folder / "cache" / "checks").iterdir())) == 1


def two_trials(folder):
    plan = plan_of(folder, BASE + "sweep: {space: {optimizer.lr: [0.1, 0.2]}}\n")
    return RankChecks(plan), *planned_trials(plan)


def test_ranks_try_a_network_until_one_of_them_has(place):
    checks, first, second = two_trials(place)
    assert checks.check_of(first, first.recipe) == BatchCheck(8)
    assert checks.check_of(second, second.recipe) == BatchCheck(8)  # it begins before anything is known
    assert checks.take(first.trial, BatchFinding(("val/top1",))) is None
    assert checks.check_of(second, second.recipe) is None
    assert two_trials(place)[0].check_of(second, second.recipe) is None  # nor does the next driver's


def test_what_a_rank_finds_wrong_is_an_error_of_the_experiment(place):
    checks, first, _ = two_trials(place)
    checks.check_of(first, first.recipe)
    error = checks.take(first.trial, BatchFinding(failure="RuntimeError: no"))
    assert "exp.yaml:2:8: model: one batch of training and one of validation fail: RuntimeError: no" in str(error)
    assert checks.check_of(first, first.recipe) is not None


def test_what_a_rank_cannot_try_is_not_tried_again_by_this_driver(place):
    checks, first, second = two_trials(place)
    checks.check_of(first, first.recipe)
    assert checks.take(first.trial, BatchFinding(skipped="one batch takes more than 20 s")) is None
    assert checks.check_of(second, second.recipe) is None
    assert two_trials(place)[0].check_of(second, second.recipe) is not None


def test_ranks_try_nothing_where_that_is_left_out(place):
    plan = replace(plan_of(place, BASE), check=False)
    (trial,) = planned_trials(plan)
    assert RankChecks(plan).check_of(trial, trial.recipe) is None
