"""The key ``init``: what it takes, what it refuses and where, and which configs it makes."""

from __future__ import annotations

import pytest

from expflow.config.components import recipe_from
from expflow.config.identity import config_id, dump, identity_tree, recipe_from_identity
from expflow.config.initial_weights import Init
from expflow.config.jsonschema import json_schema
from tests.config.files import BASE, loaded, problems


def recipe(folder, init):
    return loaded(folder, BASE + f"init: {init}\n").experiment.recipe


def ids(folder, *inits):
    return {config_id(recipe(folder, init)) for init in inits}


def test_a_recipe_without_it_keeps_its_id(tmp_path):
    plain = config_id(loaded(tmp_path, BASE).experiment.recipe)
    assert ids(tmp_path, "{from: scratch}", "{}", "null", "{freeze: none}", "{lr_scale: {backbone: 1}}") == {plain}
    assert plain not in ids(tmp_path, "{from: a/best}")


def test_one_choice_is_one_config_however_it_is_written(tmp_path):
    same = ("{from: a/best, freeze: backbone}", "{freeze: [backbone], from: a/best, head: new, probe: false}")
    assert len(ids(tmp_path, *same)) == 1
    assert len(ids(tmp_path, "{freeze: [stem, layer1]}", "{freeze: [layer1, stem, none]}")) == 1
    others = ("{from: a/best}", "{from: b/best}", "{from: a/best, head: keep}", "{from: a/best, freeze: stem}")
    assert len(ids(tmp_path, *others)) == 4


def test_it_reads_back_from_what_is_recorded(tmp_path):
    made = recipe(tmp_path, "{from: a/best, freeze: [stem], unfreeze_after: 3, lr_scale: {stem: 0.1}}")
    tree = identity_tree(made)
    assert tree["init"] == {"from": "a/best", "freeze": ["stem"], "unfreeze_after": 3, "lr_scale": {"stem": 0.1}}
    assert recipe_from_identity(tree)["init"] == dump(made)["init"]
    assert config_id(recipe_from(dump(made), tmp_path)) == config_id(made)


def test_its_parts_can_be_searched_with_conditions(tmp_path):
    space = (
        "sweep:\n  space:\n    init.from: [scratch, a/best]\n"
        "    init.freeze: {choice: [none, backbone], when: {init.from: a/best}}\n"
        "    init.lr_scale.backbone: {choice: [1, 0.1], when: {init.freeze: none}}\n"
    )
    experiment = loaded(tmp_path, BASE + space)
    made = [experiment.configure(values).init for values in experiment.grid()]
    assert [init and (init.frozen, dict(init.lr_scale)) for init in made] == [
        None,
        ((), {}),
        ((), {"backbone": 0.1}),
        (("backbone",), {}),
    ]


def test_a_whole_init_can_be_searched_too(tmp_path):
    space = "sweep: {space: {init: [null, {from: a/best, freeze: backbone}]}}\n"
    experiment = loaded(tmp_path, BASE + space)
    assert [experiment.configure(values).init is None for values in experiment.grid()] == [True, False]


FOREIGN = BASE.replace("{name: sgd, lr: 0.1}", "{name: 'torch.optim:SGD', lr: 0.1}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE + "init: {form: a/best}", "exp.yaml:5:8: init.form: unknown key; nearest valid key: from"),
        (BASE + "init: {head: old}", "exp.yaml:5:14: init.head: expected new or keep, found 'old'"),
        (BASE + "init: {freeze: 3}", "exp.yaml:5:16: init.freeze: expected text or a list, found 3"),
        (BASE + "init: {lr_scale: {stem: 0}}", "exp.yaml:5:25: init.lr_scale.stem: expected more than 0"),
        (BASE + "init: {unfreeze_after: 3}", "exp.yaml:5:24: init.unfreeze_after: nothing is frozen"),
        (
            BASE + "init: {freeze: backbone, unfreeze_after: 10}",
            "exp.yaml:5:42: init.unfreeze_after: the trial ends after 10 epochs",
        ),
        (BASE + "init: {probe: true}", "exp.yaml:5:15: init.probe: a linear probe trains the head alone"),
        (
            BASE + "init: {probe: true, freeze: backbone, unfreeze_after: 2}",
            "exp.yaml:5:55: init.unfreeze_after: the features of a probe are kept",
        ),
        (
            BASE.replace("lr: 0.1", "lr: 0.1, lr_scale: {stem: 0.1}") + "init: {lr_scale: {stem: 0.5}}",
            "exp.yaml:5:18: init.lr_scale: the optimizer has an lr_scale as well",
        ),
        (FOREIGN + "init: {lr_scale: {stem: 0.5}}", "exp.yaml:5:18: init.lr_scale: your own optimizer is handed"),
        ("task: scripted\ninit: {freeze: stem}", "exp.yaml:2:7: init: the task scripted has no network"),
        (
            BASE.replace("{name: resnet, depth: 20}", "{one: linear, two: linear}") + "init: {freeze: stem}",
            "exp.yaml:5:7: init: begins one network with one optimizer",
        ),
        (
            BASE + "sweep: {space: {init.freeze: [none, stem], init.form: [a/best]}}",
            "exp.yaml:5:44: sweep.space.init.form: unknown key; nearest valid key: init.from",
        ),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(tmp_path, text, expected):
    messages = problems(tmp_path, text, check=True)
    assert any(message.startswith(expected) for message in messages), "\n".join(messages)


def test_editors_know_it():
    section = json_schema()["properties"]["init"]
    assert set(section["properties"]) == {field.alias or name for name, field in Init.model_fields.items()}
