"""Children that begin with their parent's weights: part of their identity, kept, and the same after a new driver."""

import shutil

import pytest
import torch

from expflow.config.initial_weights import PARENT_KEY
from expflow.errors import ExperimentInvalid
from expflow.ledger import load_state
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from expflow.sweep.result_location import find_results
from expflow.sweep.trial_check import check_trial
from expflow.training.transfer.weight_loading import load_what_fits

FILE = """
data: {{name: digits, batch_size: 50, limit: 100}}
model: {{name: child}}
task: classification
optimizer: {{name: sgd, lr: 0.05}}
trainer: {{epochs: 1{trainer}}}
{more}
sweep:
  space:
    model.layers: {{layers: {{count: [1, 2], height: [1, 3], width: [1, 3], filters: [2, 4]}}}}
  searcher: {{name: {searcher}, inherit: true, trials: {trials}}}
"""
EVOLUTION = "evolution, population: 3, sample: 2"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path


def plan_of(folder, searcher=EVOLUTION, trials=8, more="", trainer="", storage=None):
    (folder / "exp.yaml").write_text(FILE.format(searcher=searcher, trials=trials, more=more, trainer=trainer))
    return make_plan(folder / "exp.yaml", storage=storage)


@pytest.mark.parametrize("searcher", [EVOLUTION, "local, startup: 2"])
def test_children_name_their_parent_and_begin_with_its_weights(place, searcher):
    plan = plan_of(place, searcher)
    run_in_process(plan)
    trials = load_state(plan.folder).plan_trials()
    assert [trial.status for trial in trials] == ["done"] * 8
    heirs = [trial for trial in trials if PARENT_KEY in trial.values]
    assert heirs
    parents = {heir.values[PARENT_KEY] for heir in heirs}
    assert parents <= {trial.config for trial in trials}
    assert all(heir.recipe["init"] == {"parent": heir.values[PARENT_KEY]} for heir in heirs)
    kept = {path.stem for path in (plan.folder / "weights").glob("*.json")}
    assert kept == {trial.trial for trial in trials if trial.config in parents}
    heir = heirs[0]
    assert check_trial(find_results(f"exp/{heir.trial}", plan.storage)).weights_equal


def test_a_search_that_goes_on_proposes_what_one_that_was_not_cut_does(place):
    whole = plan_of(place, storage=place / "whole")
    run_in_process(whole)
    cut = plan_of(place, trials=5, storage=place / "cut")
    run_in_process(cut)
    for trial in {path.stem for path in (cut.folder / "weights").glob("*.json")}:
        (folder,) = cut.folder.glob(f"trials/*{trial}")
        shutil.rmtree(folder / "checkpoints")  # the copies were made when children were proposed
    cut = plan_of(place, storage=place / "cut")
    run_in_process(cut)
    first, second = (load_state(plan.folder).plan_trials() for plan in (whole, cut))
    assert [trial.trial for trial in first] == [trial.trial for trial in second]
    assert [trial.weights for trial in first] == [trial.weights for trial in second]


@pytest.mark.parametrize(
    ("more", "trainer", "message"),
    [
        ("init: {head: keep}", "", "cannot begin with two trainings"),
        ("init: {parent: 3fa9c2d1e0b4}", "", "fill it in"),
        ("", ", checkpoint: {at_end: false}", "trainer.checkpoint.at_end: true"),
    ],
)
def test_what_does_not_go_with_it_is_refused_at_once(place, more, trainer, message):
    with pytest.raises(ExperimentInvalid) as raised:
        plan_of(place, more=more, trainer=trainer)
    assert message in str(raised.value)


def test_weights_are_taken_over_where_name_and_shape_fit():
    parent = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    child = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 5))
    drawn = child[1].weight.clone()
    assert load_what_fits(child, parent.state_dict(), origin="its parent") == 2
    assert torch.equal(child[0].weight, parent[0].weight)
    assert torch.equal(child[1].weight, drawn)
