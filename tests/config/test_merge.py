from hypothesis import given
from hypothesis import strategies as st

from expflow.config.merge import merge, tree_of_values
from expflow.config.tree import Mark, from_plain, plain

MARK = Mark("f", 1, 1)

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["x", "y"])
trees = st.dictionaries(
    st.sampled_from(["model", "trainer", "about", "a", "b"]),
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "a", "b", "c"]), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=4,
)


def merged(*values):
    tree = None
    for value in values:
        tree = merge(tree, from_plain(value, MARK))
    return plain(tree)


def test_mappings_merge_and_anything_else_replaces():
    assert merged({"a": {"x": 1, "y": [1, 2]}}, {"a": {"y": [3]}}) == {"a": {"x": 1, "y": [3]}}


def test_a_different_name_replaces():
    base = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}
    assert merged(base, {"optimizer": {"name": "lamb", "lr": 1}}) == {"optimizer": {"name": "lamb", "lr": 1}}
    assert merged(base, {"optimizer": {"name": "sgd", "lr": 1}})["optimizer"]["momentum"] == 0.9
    assert merged(base, {"optimizer": {"lr": 1}})["optimizer"]["momentum"] == 0.9


def test_a_bare_word_names_a_component():
    assert merged({"loss": "mse"}, {"loss": {"weight": 2}}) == {"loss": {"name": "mse", "weight": 2}}
    assert merged({"loss": {"name": "mse", "weight": 2}}, {"loss": "mse"}) == {"loss": {"name": "mse", "weight": 2}}
    assert merged({"loss": {"name": "mse", "weight": 2}}, {"loss": "l1"}) == {"loss": {"name": "l1"}}
    several = {"model": {"gen": "mlp", "critic": "resnet"}}
    assert merged(several, {"model": {"gen": {"hidden": 8}}})["model"]["gen"] == {"name": "mlp", "hidden": 8}


def test_a_component_replaces_a_mapping_of_names():
    assert merged({"model": {"gen": "mlp", "critic": "mlp"}}, {"model": "resnet"}) == {"model": {"name": "resnet"}}


def test_null_deletes_and_goes_on_deleting():
    assert merged({"a": {"x": 1, "y": 2}}, {"a": {"x": None}}) == {"a": {"y": 2}}
    override = merge(from_plain({"a": 1}, MARK), from_plain({"a": None}, MARK))
    assert plain(merge(from_plain({"a": 2}, MARK), override)) == {}


def test_the_root_is_never_replaced():
    assert merged({"name": "one", "a": 1}, {"name": "two"}) == {"name": "two", "a": 1}


def test_searched_values_become_one_tree():
    base = {"optimizer": {"name": "sgd", "momentum": 0.9}}
    values = {"optimizer.lr": 0.5, "optimizer.name": "lamb"}
    over = tree_of_values({key: from_plain(value, MARK) for key, value in values.items()}, MARK)
    assert plain(merge(from_plain(base, MARK), over)) == {"optimizer": {"name": "lamb", "lr": 0.5}}


def test_a_key_below_a_searched_mapping_adds_to_it():
    values = {"model.width": 8, "model": {"name": "resnet", "depth": 20}}
    over = tree_of_values({key: from_plain(value, MARK) for key, value in values.items()}, MARK)
    assert plain(over) == {"model": {"name": "resnet", "depth": 20, "width": 8}}


@given(trees)
def test_merging_nothing_changes_nothing(tree):
    once = merged(tree)
    assert merged(once, {}) == once
    assert merged({}, once) == once


@given(trees, trees)
def test_merging_the_same_again_changes_nothing(base, over):
    assert merged(base, over, over) == merged(base, over)


@given(trees, trees)
def test_the_later_one_wins(base, over):
    result = merged(base, over)
    for key, value in over.items():
        if value is None:
            assert key not in result
        elif not isinstance(value, dict | list | str):
            assert result[key] == value


@given(trees, trees)
def test_merging_changes_neither_side(base, over):
    one, other = from_plain(base, MARK), from_plain(over, MARK)
    before = plain(one), plain(other)
    merge(one, other)
    assert (plain(one), plain(other)) == before
