"""Children that cannot be trained: each is a failed or infeasible child, and the search goes on."""

import subprocess
import sys

import pytest

from expflow.ledger import load_state
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan

NAN = """
task: {{name: scripted, script: [{{report: {{val/top1: {value}}}, repeat: 2}}]}}
trainer: {{epochs: 2}}
sweep:
  space: {{task.value: [0.1, 0.2, 0.3, 0.4], task.rate: [0.2, 0.3, 0.4]}}
  searcher: {{name: {searcher}, trials: 9}}
  metric: val/top1
"""
LARGE = """
data: {name: digits, batch_size: 50, limit: 100}
model: {name: child}
task: classification
optimizer: {name: sgd, lr: 0.05}
trainer: {epochs: 1}
sweep:
  space:
    model.layers: ["1x1 s2 n2", "1x1 s2 n4", "3x3 s1 n30000, 3x3 s1 n30000", "3x3 s2 n2"]
  searcher: {name: evolution, trials: 4, population: 2, sample: 1}
"""
LIMITED = """
import resource, sys
from pathlib import Path
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
run_in_process(make_plan(Path("exp.yaml")))
"""


@pytest.mark.parametrize(
    "searcher", ["controller, batch: 2", "evolution, population: 3, sample: 2", "local", "predictor"]
)
def test_rewards_that_are_no_numbers_do_not_stop_a_search(tmp_path, monkeypatch, searcher):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp.yaml").write_text(NAN.format(searcher=searcher, value="nan"))
    plan = make_plan(tmp_path / "exp.yaml")
    run_in_process(plan)
    trials = load_state(plan.folder).plan_trials()
    assert len(trials) == 9
    assert {trial.status for trial in trials} == {"failed"}
    assert {trial.failures[-1].failure for trial in trials} == {"diverged"}


def test_a_child_that_does_not_fit_into_memory_is_a_failed_child(tmp_path, monkeypatch):
    """The weights of 30,000 filters on 30,000 maps take 32 GB; the process may have 12."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp.yaml").write_text(LARGE)
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    trials = load_state(tmp_path / "runs" / "exp").plan_trials()
    assert len(trials) == 4
    (large,) = [trial for trial in trials if "n30000" in trial.values["model.layers"]]
    assert (large.status, large.failures[-1].failure) == ("failed", "out_of_memory")
    assert [trial.status for trial in trials].count("done") == 3
