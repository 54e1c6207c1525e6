"""What is measured of networks before training: limits of memory and latency, and proxies that pass configs over."""

import pytest

from expflow.architectures.specs.child import ChildSpec
from expflow.architectures.training_memory import training_bytes
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import ExperimentInvalid
from expflow.events import NetworkMeasured, TrialProposed
from expflow.ledger import load_state, read
from expflow.report.view import build_view
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from expflow.sweep.trial_expansion import proposed_configs
from expflow.sweep.untrained_networks import UntrainedNetworks

FILE = """
data: {{name: digits, batch_size: 50, limit: 100}}
model: {{name: child}}
task: classification
optimizer: {{name: sgd, lr: 0.05}}
trainer: {{epochs: 1}}
sweep:
  space:
    model.layers: {{layers: {{count: [1, 2], height: [1, 3], width: [1, 3], filters: [2, 4, 8]}}}}
  {more}
  searcher: {{name: {searcher}, trials: {trials}}}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path


def plan_of(folder, more, searcher="random", trials=8, storage=None):
    (folder / "exp.yaml").write_text(FILE.format(more=more, searcher=searcher, trials=trials))
    return make_plan(folder / "exp.yaml", storage=storage)


def events(plan):
    return [record.body for record in read(plan.folder)]


def test_the_memory_of_a_step_is_what_a_step_by_hand_comes_to():
    """One layer of 3x3 with 2 filters on 8x8: what the backward pass keeps is counted by hand below."""
    data = DataSpec({"image": FieldSpec((1, 8, 8), "uint8")}, tuple(map(str, range(10))))
    small, large = (training_bytes(ChildSpec(name="child", layers="3x3 s1 n2"), data, batch) for batch in (8, 16))
    weights = 2 * 9 + 2 * 2 + 2 * 10 + 10
    assert small > 4 * (2 * weights + 8 * 64)
    assert (large - small) % (8 * 4) == 0
    per_sample = (large - small) // 8 // 4
    assert 64 + 2 * 64 <= per_sample <= 64 + 4 * 2 * 64 + 40


@pytest.mark.parametrize(
    ("limit", "message"),
    [("memory: 1 kB", "limits.memory is 1,000 bytes"), ("latency_ms: 0.000001", "limits.latency_ms is 1e-06")],
)
def test_a_limit_that_nothing_satisfies_is_named_when_the_sweep_is_planned(place, limit, message):
    with pytest.raises(ExperimentInvalid) as raised:
        list(proposed_configs(plan_of(place, f"limits: {{{limit}}}")))
    (problem,) = raised.value.problems
    assert problem.key == "sweep.limits"
    assert message in problem.message


def test_measured_latencies_are_recorded_and_a_later_driver_goes_by_them(place):
    plan = plan_of(place, "limits: {latency_ms: 10000}", trials=3)
    run_in_process(plan)
    run_in_process(plan_of(place, "limits: {latency_ms: 10000}", trials=5))
    measured = [event for event in events(plan) if isinstance(event, NetworkMeasured)]
    assert len(measured) == len({event.config for event in measured}) == 5
    assert all(event.metrics["latency_ms"] > 0 for event in measured)


@pytest.mark.parametrize("searcher", ["random", "evolution, population: 4, sample: 2"])
def test_a_filter_passes_the_worse_half_over_and_a_search_that_was_cut_goes_on_alike(place, searcher):
    more = "proxies: {measure: [jacobian_covariance, gradient_norm], filter: synflow, keep: 0.5, after: 3}"
    whole = plan_of(place, more, searcher, 9, storage=place / "whole")
    run_in_process(whole)
    recorded = events(whole)
    measured = [event for event in recorded if isinstance(event, NetworkMeasured)]
    proposed = [event.config for event in recorded if isinstance(event, TrialProposed)]
    assert {event.config for event in measured} > set(proposed)
    assert [event.failure for event in measured] == [""] * len(measured)
    assert set(measured[0].metrics) == {"jacobian_covariance", "gradient_norm", "synflow"}
    scores = [event.metrics["synflow"] for event in measured]
    for place_, event in enumerate(measured):
        better = sum(score > scores[place_] for score in scores[: place_ + 1])
        assert (event.config in proposed) == (place_ < 3 or better < 0.5 * (place_ + 1))
    run_in_process(plan_of(place, more, searcher, 6, storage=place / "cut"))
    cut = plan_of(place, more, searcher, 9, storage=place / "cut")
    run_in_process(cut)
    assert [trial.config for trial in load_state(cut.folder).plan_trials()] == proposed


def test_what_comes_later_does_not_change_what_was_passed_over(place):
    plan = plan_of(place, "proxies: {filter: synflow, keep: 0.5, after: 2}")
    recipe = plan.loaded.experiment.recipe
    networks = UntrainedNetworks(plan)
    for name, score in (("a", 1.0), ("b", 3.0), ("c", 2.0), ("d", 0.5), ("e", 0.1)):
        networks.take_in(NetworkMeasured(name, {"synflow": score}, 0.0))
    assert [bool(networks.refusal(name, recipe)) for name in "abcde"] == [False, False, False, True, True]


def test_the_report_says_what_the_proxies_would_have_told_beside_the_size_alone(place):
    plan = plan_of(place, "proxies: {measure: [synflow, gradient_norm]}", trials=8)
    run_in_process(plan)
    section = build_view(plan.folder, load_state(plan.folder)).proxies
    assert [row.name for row in section.rows] == ["synflow", "gradient_norm", "parameters", "multiply-adds"]
    assert section.rows[2].partial is None
    assert section.seconds > 0
    assert "8 networks were measured" in section.sentence
