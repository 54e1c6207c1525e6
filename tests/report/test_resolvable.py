"""What planned seeds can resolve, before they are paid for (docs/inference.md, "Before paying")."""

import math

import numpy as np
import pytest

from expflow.events import TrialEnded, TrialProposed, TrialReported
from expflow.ledger import Ledger
from expflow.report.resolvable import resolvable_lines, seed_spreads
from expflow.sweep.plan import make_plan
from tests.report.states import header

FILE = """
data: digits
model: linear
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 1}
sweep:
  space: {optimizer.lr: [0.1, 0.2]}
  seeds: SEEDS
report:
  contrasts:
    - {metric: val/top1, of: {optimizer.lr: 0.2}, against: {optimizer.lr: 0.1}, expect: higher}
"""


def results(storage, name, key, values):
    """Results of one config, a trial for each value."""
    ledger = Ledger.open(storage / name, header(name=name, data={"key": key}, report={}))
    for seed, value in enumerate(values):
        ledger.append(TrialProposed(f"{name}{seed}", name, seed, {}, {}))
        ledger.append(TrialReported(f"{name}{seed}", 1, 1, {"val/top1": value}, 1.0))
        ledger.append(TrialEnded(f"{name}{seed}", 1, "done", 1, 1.0))
    ledger.close("finished")


def test_the_spread_of_seeds_comes_from_results_on_the_same_data(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(40):
        results(tmp_path, f"r{number:02d}", "these", rng.normal(0.9, 0.01, 3).tolist())
    results(tmp_path, "elsewhere", "others", [0.1, 0.9])
    results(tmp_path, "single", "these", [0.5])
    spreads = seed_spreads(tmp_path, "these", ("val/top1", "val/loss"))
    assert list(spreads) == ["val/top1"]
    spread = spreads["val/top1"]
    assert spread.configs == len(spread.names) == 40
    assert spread.deviation == pytest.approx(0.01, rel=0.2)  # the plain median of three seeds would be 0.0083


@pytest.mark.parametrize(("seeds", "effect"), [("3", "3.7"), ("5", "1.8"), ("10", "1")])
def test_a_plan_says_what_its_seeds_resolve(tmp_path, monkeypatch, seeds, effect):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(FILE.replace("SEEDS", seeds))
    plan = make_plan(tmp_path / "small.yaml", storage=tmp_path / "runs")
    (line,) = resolvable_lines(plan)
    assert f"from {effect} standard deviations" in line
    assert "no earlier results" in line
    key = plan.cache.prepared and next(iter(plan.cache.prepared.values())).key
    values = [0.9, 0.91, 0.92]
    results(tmp_path / "runs", "earlier", key, values)
    (line,) = resolvable_lines(plan)
    deviation = 0.01 / math.sqrt(math.log(2))
    assert "points of val/top1 on" in line
    assert "from 1 config of earlier" in line
    points = float(line.split("about ")[1].split(" points")[0])
    assert points == pytest.approx(100 * math.sqrt(2) * deviation * float(effect), rel=0.05)


def test_two_seeds_whose_spread_is_too_wide_resolve_nothing(tmp_path):
    (tmp_path / "small.yaml").write_text(FILE.replace("SEEDS", "2"))
    plan = make_plan(tmp_path / "small.yaml", storage=tmp_path / "runs")
    list(resolvable_lines(plan))
    results(tmp_path / "runs", "earlier", next(iter(plan.cache.prepared.values())).key, [0.2, 0.9, 0.95])
    (line,) = resolvable_lines(plan)
    assert line.startswith("2 seeds and the one contrast can resolve no difference of val/top1: it would have to be")


def test_one_seed_resolves_nothing(tmp_path):
    (tmp_path / "small.yaml").write_text(FILE.replace("SEEDS", "1"))
    (line,) = resolvable_lines(make_plan(tmp_path / "small.yaml", storage=tmp_path / "runs"))
    assert "can resolve no contrast" in line
