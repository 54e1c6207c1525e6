"""A search whose space is edited goes on in the new one, and the plan says which children are dropped."""

import pytest

from expflow.ledger import load_state
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from expflow.sweep.plan_difference import compare_plan
from expflow.sweep.trial_expansion import planned_trials

FILE = """
task: {{name: scripted}}
trainer: {{epochs: 2}}
sweep:
  space: {{task.value: {values}, task.rate: [0.2, 0.4, 0.6]}}
  searcher: {{name: {searcher}, trials: {trials}}}
  metric: val/top1
"""


@pytest.mark.parametrize("searcher", ["controller, batch: 3", "evolution, population: 4", "local", "predictor"])
def test_an_edited_space_goes_on_and_says_what_it_drops(tmp_path, monkeypatch, searcher):
    monkeypatch.chdir(tmp_path)

    def plan_of(values, trials):
        (tmp_path / "exp.yaml").write_text(FILE.format(values=values, trials=trials, searcher=searcher))
        return make_plan(tmp_path / "exp.yaml")

    run_in_process(plan_of([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 12))
    edited = plan_of([0.3, 0.4, 0.5, 0.6, 0.7], 14)
    before = load_state(edited.folder)
    difference = compare_plan(edited, planned_trials(edited), before)
    gone = [trial.trial for trial in before.plan_trials() if trial.values["task.value"] < 0.25]
    assert gone
    assert set(gone) <= set(difference.dropped)
    assert "dropped (their results stay)" in str(difference)
    run_in_process(edited)
    after = load_state(edited.folder)
    assert len(after.plan_trials()) == 14
    assert all(trial.status == "done" and trial.values["task.value"] > 0.25 for trial in after.plan_trials())
    assert set(before.trials) <= set(after.trials)
    repeated = set(before.trials) & {trial.trial for trial in after.plan_trials()}
    assert all(after.trials[trial].attempt == 1 for trial in repeated)
