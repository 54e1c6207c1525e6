from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expflow.config import config_id, config_text, dump, folder_name, identity_tree, recipe_from, trial_id
from expflow.config.identity import dump_yaml, recipe_from_identity, recorded_tree, safe_name
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import Spec, budget, execution, identity
from expflow.config.tree import plain
from expflow.config.yaml_reader import parse
from tests.config.files import BASE, loaded


class Old(Spec):
    """A component as it is."""

    slots: ClassVar[frozenset[str]] = frozenset()
    width: int = identity(16, description="Width.")
    tags: tuple[str, ...] = identity((), description="Tags.")
    steps: int = budget(1, description="Steps.")
    workers: int = execution(1, description="Workers.")


class New(Old):
    """The same component after somebody added keys to it."""

    extra: float = identity(0.5, description="New.")
    more: dict[str, int] = identity(default_factory=dict, description="New, too.")


arguments = st.fixed_dictionaries(
    {}, optional={"width": st.integers(1, 99), "tags": st.lists(st.text(max_size=3), max_size=2).map(tuple)}
)


def recipe(spec, epochs=10):
    return Recipe(task=spec, trainer=Trainer(epochs=epochs))


@given(arguments)
def test_new_keys_with_a_default_change_no_id(given_):
    assert config_id(recipe(Old(name="x", **given_))) == config_id(recipe(New(name="x", **given_)))


@given(arguments, st.integers(1, 99), st.integers(1, 99), st.integers(1, 99))
def test_budget_and_execution_change_no_id(given_, steps, workers, epochs):
    changed = recipe(Old(name="x", steps=steps, workers=workers, **given_), epochs)
    assert config_id(changed) == config_id(recipe(Old(name="x", **given_)))


@given(arguments, arguments)
def test_other_values_are_another_id(one, other):
    defaults = {"width": 16, "tags": ()}
    differs = {**defaults, **one} != {**defaults, **other}
    assert (config_id(recipe(Old(name="x", **one))) != config_id(recipe(Old(name="x", **other)))) == differs


@given(
    st.permutations(["data: digits", "model: {width: 8, name: resnet, depth: 20}", "optimizer: {lr: 0.2, name: sgd}"])
)
def test_the_order_of_keys_changes_no_id(lines):
    tree = plain(parse("\n".join([*lines, "task: classification"]), "f"))
    model = {"name": "resnet", "depth": 20, "width": 8}
    usual = {"task": "classification", "optimizer": {"name": "sgd", "lr": 0.2}, "model": model, "data": "digits"}
    assert config_id(recipe_from(tree, Path())) == config_id(recipe_from(usual, Path()))


def test_ids_stay_what_they_are(tmp_path):
    """These are in people's ledgers. If this fails, old results are lost: raise SCHEMA_NUMBER only knowingly."""
    recipe = loaded(tmp_path, BASE).experiment.recipe
    assert identity_tree(recipe) == {
        "data": {"name": "digits"},
        "model": {"name": "resnet", "depth": 20},
        "task": {"name": "classification"},
        "loss": {"name": "cross_entropy"},
        "optimizer": {"name": "sgd"},
        "schedule": {"name": "constant"},
    }
    config = config_id(recipe)
    assert config == CONFIG
    assert trial_id(config, 0, "key") == TRIAL
    assert len({trial_id(config, 1, "key"), trial_id(config, 0, "other"), trial_id(config, 0, "key", "w"), TRIAL}) == 4


CONFIG, TRIAL = "6e3612753540", "76c5f293f0ac"


def test_the_same_said_in_another_way_is_the_same(tmp_path):
    one = loaded(tmp_path, BASE).experiment.recipe
    other = loaded(tmp_path, BASE.replace("depth: 20", "depth: 20, width: 16, shortcut: pad")).experiment.recipe
    assert config_id(one) == config_id(other)


def test_arguments_of_the_users_own_that_are_defaults_are_not_hashed(tmp_path):
    (tmp_path / "own_defaults.py").write_text(
        "class Net:\n    def __init__(self, hidden=64, act='relu', sizes=(1, 2)): pass\n"
    )

    def own(model):
        return loaded(tmp_path, BASE.replace("{name: resnet, depth: 20}", model)).experiment.recipe

    usual = own("'own_defaults:Net'")
    text = own("{name: 'own_defaults:Net', hidden: 64, sizes: [1, 2]}")
    other = own("{name: 'own_defaults:Net', hidden: 32}")
    assert config_id(usual) == config_id(text) != config_id(other)
    assert text.model.arguments == {"hidden": 64, "sizes": [1, 2]}


def test_a_dump_reads_back_to_the_same_recipe(tmp_path):
    text = BASE + "trainer: {epochs: 3, lightning: {gradient_clip_val: 0.5}}\n"
    text = text.replace("data: digits", "data: {name: folder, path: x/y}")
    recipe = loaded(tmp_path, text).experiment.recipe
    assert recipe_from(dump(recipe), tmp_path) == recipe
    assert recipe_from(plain(parse(dump_yaml(recipe), "f")), tmp_path) == recipe
    assert dump(recipe)["optimizer"]["momentum"] == 0.0


def test_a_recipe_comes_back_from_its_identity(tmp_path):
    recipe = loaded(tmp_path, BASE + "trainer: {epochs: 3}\n").experiment.recipe
    assert recipe_from_identity(identity_tree(recipe), {"trainer.epochs": 3}) == dump(recipe)
    own = {"task": {"name": "gone:Task", "a": 1}, "model": {"g": {"name": "mlp"}, "c": {"name": "gone:Net"}}}
    back = recipe_from_identity(own)
    assert back["task"] == {"name": "gone:Task", "a": 1}
    assert back["model"]["g"]["hidden"] == 64


yaml_values = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),  # NUL is refused in files
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc:# -no1", max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("abc"), yaml_values, max_size=3))
def test_what_is_written_as_yaml_reads_back(tree):
    assert plain(parse(dump_yaml(tree), "f")) == tree


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"model.depth": 56, "model.shortcut": "pad"}, "depth=56 shortcut=pad"),
        ({"model.width": 1, "optimizer.width": 2}, "model.width=1 optimizer.width=2"),
        ({"optimizer.name": "sgd", "optimizer.lr": 0.000123456}, "optimizer=sgd lr=0.0001235"),
        ({"model": {"name": "resnet", "depth": 50}}, "model=resnet(depth=50)"),
        ({"model": {"name": "mlp"}, "a.b": True, "a.c": None, "a.d": [1, 2]}, "model=mlp b=true c=null d=1,2"),
        ({}, ""),
    ],
)
def test_readable_values(values, text):
    assert config_text(values) == text


def test_folder_names():
    assert folder_name({"model.depth": 56}, 0, "3fa9c2d1e0b4") == "depth=56_s0-3fa9c2d1e0b4"
    assert folder_name({}, 2, "3fa9c2d1e0b4") == "s2-3fa9c2d1e0b4"
    assert folder_name({"data.path": "../a b:c"}, 0, "id") == "path=.._a_b_c_s0-id"
    assert len(folder_name({"a.x": "y" * 500}, 0, "3fa9c2d1e0b4")) < 140


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"), min_size=1))
def test_safe_names_are_safe_and_differ(one, other):
    assert not set(safe_name(one)) & set("/\\:*?\"<>| '$&;()\n\0")
    assert safe_name(one) not in (".", "..")
    assert len(safe_name(one).encode()) <= 120
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_the_record_holds_what_was_written_for_ones_own_components(tmp_path):
    """The default of one's own network may change in its file; what was recorded must not change with it."""
    (tmp_path / "nets.py").write_text("class Net:\n    def __init__(self, num_classes, hidden=64): ...\n")
    text = BASE.replace("{name: resnet, depth: 20}", '{name: "nets:Net", hidden: 64}')
    assert text != BASE
    recipe = loaded(tmp_path, text).experiment.recipe
    assert identity_tree(recipe)["model"] == {"name": "nets:Net"}
    assert recorded_tree(recipe)["model"] == {"name": "nets:Net", "hidden": 64}
    assert recorded_tree(loaded(tmp_path, BASE).experiment.recipe) == identity_tree(
        loaded(tmp_path, BASE).experiment.recipe
    )


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\x01", "\ufeff", "line\nline", "1e-4", "no: x", "é"])
def test_any_text_is_written_so_that_it_reads_back(text):
    assert plain(parse(dump_yaml({"key": text}), "f")) == {"key": text}
