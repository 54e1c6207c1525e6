"""Trials that are looked up in a table of trained children: a search over it, and what is refused."""

import gzip
import itertools
import json

import pytest

from expflow.config.identity import canonical_json
from expflow.ledger import load_state
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan

FILE = """
task: {{name: replayed, table: {table}}}
model: {{name: child}}
trainer: {{epochs: {epochs}}}
sweep:
  space:
    model.layers: {{layers: {{count: 2, height: [1, 3], width: [3], filters: [4, {filters}]}}}}
  seeds: {seeds}
  searcher: {{name: evolution, trials: 12, population: 4, sample: 2}}
  metric: val/top1
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sides = list(itertools.product((1, 3), (4, 8)))
    children = [
        {
            "network": canonical_json({"model.layers": f"{one}x3 s1 n{n}, {two}x3 s1 n{m}"}),
            "params": 100 * one + n,
            "macs": 7 * m,
            "seeds": [{"seed": seed, "val_top1": [0.1, (one * n + two * m + seed) / 100]} for seed in (0, 1)],
        }
        for (one, n), (two, m) in itertools.product(sides, sides)
    ]
    (tmp_path / "table.json.gz").write_bytes(gzip.compress(json.dumps({"version": 1, "children": children}).encode()))
    return tmp_path


def swept(folder, **changes):
    values = {"table": "table.json.gz", "epochs": 2, "filters": 8, "seeds": 2} | changes
    (folder / "exp.yaml").write_text(FILE.format(**values))
    plan = make_plan(folder / "exp.yaml")
    run_in_process(plan)
    return load_state(plan.folder).plan_trials()


def test_a_search_over_a_table_reports_what_the_table_holds(place):
    trials = swept(place)
    assert len(trials) == 24
    for trial in trials:
        layers = [[trial.values[f"model.layers.{n}.{part}"] for part in ("height", "filters")] for n in (1, 2)]
        expected = (layers[0][0] * layers[0][1] + layers[1][0] * layers[1][1] + trial.seed) / 100
        assert [report.metrics["val/top1"] for report in trial.reports] == [0.1, expected]
        assert trial.metrics["cost/params"] == 100 * layers[0][0] + layers[0][1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 3}, "has the seeds 0, 1, not 2"),
        ({"epochs": 3}, "trained for 2 epochs, not 3"),
        ({"filters": 16}, "has no child"),
        ({"table": "exp.yaml"}, "is no table of children"),
        ({"table": "nowhere.gz"}, "is no table of children"),
    ],
)
def test_what_the_table_does_not_hold_is_named(place, changes, message):
    trials = swept(place, **changes)
    failed = [trial for trial in trials if trial.status == "failed"]
    assert failed
    assert all(message in trial.failures[-1].message for trial in failed)
