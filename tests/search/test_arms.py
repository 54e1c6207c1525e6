"""The proof of a search: which children it retrains, when they are settled, and what is refused."""

import hashlib
import json

import pytest

from expflow.errors import AddressUnknown, ExperimentInvalid, UserError
from expflow.events import ArtifactWritten
from expflow.ledger.header import Header
from expflow.search.arms import ArmSearch
from expflow.search.specs import ResolvedArmsSpec
from expflow.sweep.ledger_header import ledger_header
from expflow.sweep.searchers import Learned
from expflow.sweep.trial_expansion import proposed_configs
from tests.sweep.stage import Stage

SEARCHED = """
task: {{name: scripted}}
trainer: {{epochs: 2}}
sweep:
  space: {{task.value: {{uniform: [0, 1]}}, task.rate: [0.3, 0.6]}}
  searcher: {searcher}
  metric: val/top1
"""
PROOF = """
task: {{name: scripted}}
trainer: {{epochs: 4}}
sweep:
  searcher: {{name: arms, {arms}}}
  seeds: [100, 101, 102]
  metric: val/top1
"""
BOTH = "search: found, random_search: drawn, random_children: 3, by_hand: {task.value: 0.5}"


def searched(folder, name, searcher, **more):
    stage = Stage(folder, SEARCHED.format(searcher=searcher))
    stage.run(**more)
    stage.save(name)
    return stage


@pytest.fixture
def results(tmp_path):
    searched(tmp_path, "found", "{name: tpe, trials: 6, startup: 3}")
    return tmp_path, searched(tmp_path, "drawn", "{name: random, trials: 7}")


def proof(folder, arms=BOTH):
    return Stage(folder, PROOF.format(arms=arms))


def header_of(stage):
    return ledger_header(stage.plan(), tracking="", code={})


def children_of(header, arm):
    return [child for child in header.arms["children"] if child["arm"] == arm]


def test_the_arms_are_what_each_search_selects_a_draw_and_a_net_by_hand(results):
    folder, drawn = results
    header = header_of(proof(folder))
    (best,) = children_of(header, "random search")
    values = {trial.config: trial for trial in drawn.state().plan_trials()}
    assert best["values"] == max(values.values(), key=lambda trial: trial.metrics["val/top1"]).values
    assert best["score"] == max(trial.metrics["val/top1"] for trial in values.values())
    draws = children_of(header, "random children")
    assert len({json.dumps(child["values"]) for child in draws}) == 3
    assert children_of(header, "by hand")[0]["values"] == {"task.value": 0.5}
    assert header.arms["sources"]["found"]["configs"] == 6
    assert Header.from_json(json.loads(json.dumps(header.to_json()))).arms == json.loads(json.dumps(header.arms))


def test_every_child_is_proposed_once_with_the_new_seeds(results):
    folder, _ = results
    stage = proof(folder)
    plan = stage.plan()
    configs = list(proposed_configs(plan))
    assert {"task.value": 0.5} in configs
    assert len(configs) in (5, 6)  # the random search's best may be among the random children
    stage.run()
    assert {trial.seed for trial in stage.state().plan_trials()} == {100, 101, 102}


def test_the_children_are_settled_once_whatever_becomes_of_the_search(results):
    folder, _ = results
    stage = proof(folder)
    before = header_of(stage)
    stage.ledger.append(before)
    stage.save("exp")
    searched(folder, "found", "{name: random, trials: 30, seed: 9}")  # it went on, and found another child
    stage = proof(folder)
    assert header_of(stage).arms == before.arms
    assert stage.plan().search_key == before.search
    edited = proof(folder, BOTH.replace("children: 3", "children: 2"))
    assert header_of(edited).arms["sources"]["found"]["configs"] == 30  # other arms are looked up anew


def test_a_random_draw_is_of_a_random_search(results):
    folder, _ = results
    with pytest.raises(UserError, match="found was searched by tpe; random children are those of the searcher random"):
        proof(folder, "search: drawn, random_search: found, random_children: 2").plan()
    with pytest.raises(UserError, match="drawn has 7 children with a value, and 20 are asked for"):
        proof(folder, "search: found, random_search: drawn").plan()


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ("search: found", "random_children: they are drawn from a random search"),
        ("search: found, random_search: found", "search: the same results are named twice"),
        ("search: found, random_children: 0, by_hand: {task.colour: 3}", "task.colour"),
        ("random_search: drawn", "sweep.searcher.search"),
    ],
)
def test_arms_that_cannot_be_are_refused_in_the_file(results, arms, message):
    folder, _ = results
    with pytest.raises(ExperimentInvalid, match=message):
        proof(folder, arms).plan()


def test_a_search_that_is_missing_or_has_not_ended_is_named(results):
    folder, _ = results
    with pytest.raises(AddressUnknown, match="nowhere"):
        proof(folder, "search: nowhere, random_children: 0").plan()
    half = Stage(folder, SEARCHED.format(searcher="{name: random, trials: 4}"))
    half.open().propose()
    half.save("half")
    with pytest.raises(UserError, match="half has 1 trials to go; a search has to end before its proof"):
        proof(folder, "search: half, random_children: 0").plan()


def test_the_child_that_a_one_shot_search_wrote_is_its_arm(results):
    folder, _ = results
    stage = Stage(folder, SEARCHED.format(searcher="{name: random, trials: 2}"))
    stage.run()
    best = max(stage.state().plan_trials(), key=lambda trial: trial.metrics["val/top1"])
    for step, value in ((1, 0.25), (2, 0.75)):
        text = json.dumps({"task.value": value}).encode()
        path = f"trials/x/artifacts/child/step-{step}.txt"
        file = folder / "runs" / "shot" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
        digest = hashlib.sha256(text).hexdigest()
        stage.ledger.append(ArtifactWritten(best.trial, 1, step, "child", path, "text", digest, len(text)))
    stage.save("shot")
    (child,) = children_of(header_of(proof(folder, "search: shot, random_children: 0")), "search")
    assert (child["values"], child["score"]) == ({"task.value": 0.75}, best.metrics["val/top1"])
    file.write_bytes(b"{}")
    with pytest.raises(UserError, match="the child of shot, is missing or was changed since"):
        proof(folder, "search: shot, random_children: 0").plan()


def test_a_child_that_may_not_be_trained_is_an_error_and_no_empty_arm():
    children = ({"arm": "by hand", "source": "", "values": {"model.layers": "9x9 s1 n64"}, "score": None},)
    search = ArmSearch(ResolvedArmsSpec(search="found", random_children=0, children=children), (), "max")
    values = search.suggest()
    with pytest.raises(UserError, match=r"the child of the arm by hand cannot be trained here: limits.macs is 300"):
        search.complete(values, Learned("infeasible", refused="limits.macs is 300"))
    search.complete(values, Learned("infeasible"))  # it was trained, and diverged
    assert search.suggest() is None


def test_one_network_in_two_arms_is_trained_once():
    layer = {"model.layers.1.height": 3, "model.layers.1.width": 3, "model.layers.1.filters": 8}
    children = tuple(
        {"arm": arm, "source": "", "values": values, "score": None}
        for arm, values in (("search", layer), ("random search", {**layer, "model.layers.1.stride": 1}))
    )
    search = ArmSearch(ResolvedArmsSpec(search="found", random_children=0, children=children), (), "max")
    assert search.suggest() == layer
    assert search.suggest() is None
