"""What a plan expects a sweep to cost, and what it did cost beside it."""

import json
from dataclasses import replace

import pytest

from expflow.events import TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import Ledger, load_state
from expflow.report.costs import cost_comparisons, quantity
from expflow.sweep.cost_estimate import TrialCost, check_builds
from expflow.sweep.forecast import STARTUP_SECONDS, forecast, save_forecast
from expflow.sweep.ledger_header import ledger_header
from expflow.sweep.plan import make_plan
from expflow.training.step_timing import StepTiming

EXPERIMENT = {
    "data": "digits",
    "model": "linear",
    "task": "classification",
    "optimizer": "sgd",
    "trainer": {"epochs": 9},
    "resources": {"max_concurrent": 1},
}
STEPS = StepTiming(train=0.01, evaluate=0.005, spread=0.2, state_bytes=1000, peak_bytes=400_000_000)


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A plan, and its rows as if each trial took ``seconds``."""
    monkeypatch.chdir(tmp_path)

    def make(seconds=36.0, **sweep):
        file = tmp_path / "exp.yaml"
        file.write_text(json.dumps({**EXPERIMENT, "sweep": {"seeds": 2, **sweep}}))
        plan = make_plan(file)
        return plan, [replace(row, seconds=seconds, steps=STEPS) for row in check_builds(plan)]

    return make


def test_a_grid_costs_the_sum_of_its_trials(planned):
    plan, rows = planned(space={"optimizer.lr": [0.1, 0.2]})
    made = forecast(plan, rows)
    assert made.trials == 4
    assert made.device_hours.middle == pytest.approx(4 * 36 / 3600)
    assert made.wall.middle == pytest.approx(4 * 36 + sum(STARTUP_SECONDS) / 2)
    assert made.wall.low == pytest.approx(4 * 36 * 0.9 + STARTUP_SECONDS[0])
    assert made.wall.high == pytest.approx(4 * 36 * 1.1 + STARTUP_SECONDS[1])
    assert made.memory.high == 400_000_000
    assert made.disk.middle == 4 * 1000
    assert made.money is None


def test_money_is_said_where_the_site_names_a_price(planned, monkeypatch):
    monkeypatch.setenv("EXPFLOW_PRICE", "2.5")
    plan, rows = planned(space={"optimizer.lr": [0.1]})
    assert forecast(plan, rows).money.middle == pytest.approx(2.5 * 2 * 36 / 3600)


def test_a_scheduler_and_a_searcher_are_counted_with(planned):
    space = {"optimizer.lr": {"uniform": [0.01, 1.0]}}
    tpe = {"name": "tpe", "trials": 30}
    plan, rows = planned(space=space, searcher=tpe, seeds=1)
    whole = forecast(plan, rows)
    assert whole.trials == 30
    assert whole.device_hours.middle == pytest.approx(30 * 36 / 3600)
    plan, rows = planned(space=space, searcher=tpe, scheduler={"name": "asha", "min": 1, "reduction": 3}, seeds=1)
    stopped = forecast(plan, rows)
    assert whole.device_hours.middle / 9 < stopped.device_hours.middle < whole.device_hours.middle / 2
    assert stopped.device_hours.low < stopped.device_hours.high


def test_nothing_is_predicted_of_what_was_not_measured(planned):
    plan, rows = planned(space={"optimizer.lr": [0.1]})
    assert forecast(plan, [TrialCost(rows[0].trial, rows[0].count)]) is None
    assert forecast(plan, []) is None


def test_the_report_puts_beside_it_what_it_did_cost(planned):
    plan, rows = planned(space={"optimizer.lr": [0.1]})
    save_forecast(plan.folder, forecast(plan, rows))
    with Ledger.open(plan.folder, ledger_header(plan, tracking="", code={})) as ledger:
        for row in rows:
            trial = row.trial
            ledger.append(
                TrialProposed(trial.trial, trial.config, trial.seed, trial.values, trial.recorded, trial.budget)
            )
            ledger.append(TrialStarted(trial.trial, 1, "gang", 0))
            ledger.append(TrialReported(trial.trial, 1, 9, {"val/top1": 0.5, "cost/peak_bytes": 3.2e8}, 1.0))
            ledger.append(TrialEnded(trial.trial, 1, "done", 9, 45.0, ""))
        kept = plan.folder / "trials" / trial.folder / "checkpoints" / "one" / "weights"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(b"x" * 1500)
    comparisons = {comparison.what: comparison for comparison in cost_comparisons(plan.folder, load_state(plan.folder))}
    assert comparisons["device time"].predicted == "1 min 12 s (1 min 5 s to 1 min 19 s)"
    assert comparisons["device time"].actual == "1 min 30 s"
    assert comparisons["peak memory of a rank"].actual == "320 MB"
    assert comparisons["disk for checkpoints"].actual == "1.5 kB"
    plan, _ = planned(space={"optimizer.lr": [0.1, 0.2]})  # an edited plan is another one
    edited = load_state(plan.folder)
    edited.header = ledger_header(plan, tracking="", code={})
    assert cost_comparisons(plan.folder, edited) == []


def test_quantities_in_words():
    assert quantity(2_500_000, "B") == "2.5 MB"
    assert quantity(12, "B") == "12 bytes"
    assert quantity(1234.5, "") == "1,234.50"
