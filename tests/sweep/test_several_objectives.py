"""``metric: [val/top1, cost/macs]``: what is refused, what is proposed, which leaders are confirmed."""

import json
import random

import pytest

from expflow.config.schema import Dimension
from expflow.config.space import sample
from expflow.errors import ExperimentInvalid
from expflow.ledger import SweepState
from expflow.ledger.header import Header
from expflow.pareto import hypervolume
from expflow.sweep.ledger_header import ledger_header
from expflow.sweep.metric_check import MetricCheck
from expflow.sweep.objective import Objective, leading_configs
from expflow.sweep.searchers import Learned
from expflow.sweep.searchers.pareto_search import ParetoSearch
from expflow.sweep.searchers.specs import NSGA2Spec
from tests.report.states import trial
from tests.sweep.stage import Stage

FILE = """
task: {{name: scripted}}
trainer: {{epochs: 2}}
sweep:
  space: {{task.value: {{uniform: [0, 1]}}, task.rate: [0.1, 0.5, 0.9]}}
  searcher: {searcher}
  metric: {metric}
  {more}
"""
NSGA2 = "{name: nsga2, trials: 8, population: 4}"


def plan_of(folder, metric, searcher=NSGA2, more=""):
    return Stage(folder, FILE.format(metric=metric, searcher=searcher, more=more)).plan()


@pytest.mark.parametrize(
    ("metric", "searcher", "more", "message"),
    [
        ("[]", NSGA2, "", r"sweep.metric: expected a metric or a list of 1 to 4 of them"),
        ("[val/top1, 3]", NSGA2, "", r"sweep.metric: expected a metric or a list of 1 to 4 of them"),
        ("[val/top1, val/top1]", NSGA2, "", r"the same metric is listed twice"),
        ("[val/top1, mine]", NSGA2, "", r"whether more of 'mine' is better is not known; add its `mode`"),
        ("[val/top1, mine]", NSGA2, "mode: max", r"sweep.mode: expected a list of 2, one of max, min and null"),
        ("[val/top1, mine]", NSGA2, "mode: [max]", r"sweep.mode: expected a list of 2, one of max, min and null"),
        ("[val/top1, val/loss]", "{name: tpe, trials: 4}", "", r"tpe learns from one metric, and sweep.metric lists 2"),
        ("[val/top1, val/loss]", NSGA2, "scheduler: asha", r"a scheduler judges by the first metric"),
        ("val/top1", NSGA2, "further: []", r"sweep.further: unknown key; expected one of"),
    ],
)
def test_what_judges_by_one_metric_is_refused_beside_several(tmp_path, metric, searcher, more, message):
    with pytest.raises(ExperimentInvalid, match=message):
        plan_of(tmp_path, metric, searcher, more)


def test_directions_are_known_or_given_and_reach_the_ledger(tmp_path):
    plan = plan_of(tmp_path, "[val/top1, cost/macs, mine]", more="mode: [null, null, max]")
    assert plan.objectives == (("val/top1", "max"), ("cost/macs", "min"), ("mine", "max"))
    header = Header.from_json(json.loads(json.dumps(ledger_header(plan, tracking="", code={}).to_json())))
    assert header.metric == "val/top1"
    assert [(one["metric"], one["mode"]) for one in header.objectives] == list(plan.objectives)


def test_one_metric_searches_as_before_and_another_objective_is_another_search(tmp_path):
    keys = {
        metric: plan_of(tmp_path, metric, "{name: random, trials: 4}").search_key
        for metric in ("val/top1", "[val/top1]", "[val/top1, val/loss]", "[val/top1, cost/macs]")
    }
    assert keys["val/top1"] == keys["[val/top1]"]
    assert len(set(keys.values())) == 3


def test_a_sweep_says_which_objective_no_trial_reports(tmp_path):
    check = MetricCheck(plan_of(tmp_path, "[val/top1, val/f1]"), SweepState())
    reported = trial({"task.value": 0.5}, 0, "done", {"val/top1": 0.5, "val/loss": 1.0})
    assert "no trial reports val/f1" in str(check.problem(reported))


def test_the_front_is_confirmed_before_better_configs_that_it_dominates():
    def config(name, top1, macs):
        return trial({"model": name}, 0, "done", {"val/top1": top1, "cost/macs": macs})

    trials = [config("large", 0.95, 100.0), config("wasteful", 0.94, 120.0), config("small", 0.6, 1.0)]
    one, two = Objective("val/top1", "max"), Objective("val/top1", "max", further=(("cost/macs", "min"),))
    large, wasteful, small = (entry.config for entry in trials)
    assert leading_configs(trials, one, 2) == [large, wasteful]
    assert leading_configs(trials, two, 2) == [large, small]
    assert leading_configs(trials, two, 3) == [large, small, wasteful]


SPACE = (
    *(Dimension(key=f"a{place}", kind="choice", values=tuple(range(6))) for place in range(6)),
    Dimension(key="deep", kind="choice", values=(0, 1)),
    *(Dimension(key=f"b{place}", kind="choice", values=tuple(range(6)), when={"deep": (1,)}) for place in range(4)),
)
"""Two ends of each choice are good for one objective each; the right four inner ones, which only deep configs have, for
both."""
BOX = (60.0, 0.0), (0.0, 60.0)


def outcome(values):
    gain = sum(values[f"a{place}"] for place in range(6))
    cost = sum((values[f"a{place}"] ** 2) / 5 for place in range(6)) + 4 * values["deep"]
    inner = sum(5 - abs(values[f"b{place}"] - place) for place in range(4)) if values["deep"] else 0
    return float(gain + inner), float(cost + 24 - inner)


def searched(seed, trials=240):
    search = ParetoSearch(NSGA2Spec(trials=trials, seed=seed), SPACE, (("gain", "max"), ("cost", "min")))
    points = []
    for _ in range(trials):
        values = search.suggest()
        gain, cost = outcome(values)
        points.append((gain, cost))
        search.complete(values, Learned("complete", gain, metrics={"gain": gain, "cost": cost}))
    return points


def test_the_search_dominates_more_than_random_draws_also_where_keys_depend_on_others():
    """Over 8 seeds; inner choices are inherited although not every config has them."""
    gained = []
    for seed in range(8):
        draw = random.Random(seed)
        drawn = [outcome(sample(SPACE, draw)) for _ in range(240)]
        gained.append(hypervolume(searched(seed), *BOX) - hypervolume(drawn, *BOX))
    assert min(gained) > 0
    assert sum(gained) / len(gained) > 0.03


def test_a_config_without_a_number_for_an_objective_takes_no_part():
    search = ParetoSearch(NSGA2Spec(trials=9, population=2), SPACE, (("gain", "max"), ("cost", "min")))
    for learned in (
        Learned("infeasible"),
        Learned("failed"),
        Learned("complete", 3.0, metrics={"gain": 3.0}),
        Learned("complete", 3.0, metrics={"gain": 3.0, "cost": float("nan")}),
        Learned("stopped", 3.0, 0.5, {"gain": 3.0, "cost": 1.0}),
        Learned("complete", 3.0, metrics={"gain": 3.0, "cost": 1.0}),
    ):
        search.complete(search.suggest(), learned)
    assert search.suggest() is not None


def test_what_was_recorded_stands_in_place_of_what_would_be_proposed():
    one, other = (ParetoSearch(NSGA2Spec(trials=9, population=2), SPACE, (("gain", "max"),)) for _ in range(2))
    first = one.suggest()
    recorded = {**first, "a0": (first["a0"] + 1) % 6}
    assert other.suggest(recorded) == recorded
    other.complete(recorded, Learned("complete", 1.0, metrics={"gain": 1.0}))
    assert other.suggest({"gone": 1}) == {"gone": 1}  # of another space
    other.complete({"gone": 1}, Learned("complete", 1.0, metrics={"gain": 1.0}))
    other.complete(first, Learned("complete", 2.0, metrics={"gain": 2.0}))  # of an earlier sweep
    assert other.suggest() is not None
