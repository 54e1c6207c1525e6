"""Spaces as choices: draws, changes, networks that are equal, and what a predictor sees of them."""

import random

import pytest

from expflow.config.child_space import child_dimensions
from expflow.config.schema import Dimension
from expflow.search.choices import ChoiceSpace, features

LAYERS = child_dimensions(
    "model.layers",
    "layers",
    {"count": [1, 2, 3], "height": [1, 3], "width": [3, 5], "stride": [1, 2], "filters": [4, 8], "skips": True},
)
CELL = child_dimensions("model.normal", "cell", {"nodes": 3, "operations": "darts", "outputs": "last"})
OWN_KEYS = (
    Dimension(key="model.depth", kind="choice", values=(8, 20, 32)),
    Dimension(key="model.shortcut", kind="choice", values=("none", "pad"), when={"model.depth": (20, 32)}),
    Dimension(key="model.width", kind="int", low=4, high=16, step=4),
)
SPACES = {"layers": LAYERS, "cell": CELL, "own keys": OWN_KEYS}

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@every_space
def test_whatever_is_drawn_or_changed_is_a_config_of_the_space(space):
    choices, rng = ChoiceSpace(space), random.Random(0)
    for _ in range(30):
        one, other = choices.sample(rng), choices.sample(rng)
        for values in (one, choices.mutate(one, rng), choices.cross_over(one, other, rng)):
            assert choices.indices(values) is not None
            assert list(values) == [dimension.key for dimension in space if dimension.key in values]
        assert choices.mutate(one, rng) != one


@every_space
def test_neighbours_differ_from_a_config_and_from_each_other(space):
    choices, rng = ChoiceSpace(space), random.Random(1)
    values = choices.sample(rng)
    near = choices.neighbours(values, rng)
    networks = [choices.network(neighbour) for neighbour in near]
    assert len(set(networks)) == len(networks) > 0
    assert choices.network(values) not in networks
    assert all(choices.indices(neighbour) is not None for neighbour in near)


def test_a_config_of_another_space_has_no_places():
    choices = ChoiceSpace(OWN_KEYS)
    assert choices.indices({"model.depth": 8, "model.width": 4}) == [(0, 0), (2, 0)]
    assert choices.indices({"model.depth": 9, "model.width": 4}) is None
    assert choices.indices({"model.depth": 8, "model.shortcut": "pad", "model.width": 4}) is None
    assert choices.indices({"model.depth": 8}) is None
    assert choices.indices({"model.depth": 8, "model.width": 4, "optimizer.lr": 0.1}) is None


def test_descriptions_of_one_cell_are_one_network_with_the_same_paths():
    choices, rng = ChoiceSpace(CELL), random.Random(3)
    values = choices.sample(rng) | {"model.normal.4.in1": 0, "model.normal.4.in2": 1}
    other = values | {"model.normal.2.op1": "skip_connect", "model.normal.3.op2": "max_pool_3x3"}
    swapped = values | {
        f"model.normal.4.{part}{edge}": values[f"model.normal.4.{part}{3 - edge}"]
        for part in ("in", "op")
        for edge in (1, 2)
    }
    assert choices.network(values) == choices.network(other) == choices.network(swapped)
    assert features(values) == features(other) == features(swapped)


def test_the_path_encoding_names_the_operations_from_an_input_to_the_output():
    values = {
        "model.normal.outputs": "last",
        "model.normal.2.in1": 0,
        "model.normal.2.op1": "conv_1x1",
        "model.normal.2.in2": 1,
        "model.normal.2.op2": "skip_connect",
        "model.normal.3.in1": 2,
        "model.normal.3.op1": "max_pool_3x3",
        "model.normal.3.in2": 1,
        "model.normal.3.op2": "conv_3x3",
        "model.width": 8,
    }
    assert features(values) == {
        "model.normal: 0 conv_1x1 max_pool_3x3",
        "model.normal: 1 skip_connect max_pool_3x3",
        "model.normal: 1 conv_3x3",
        "model.width=8",
    }


def test_no_draw_is_left_of_a_space_that_is_all_known():
    choices, rng = ChoiceSpace(OWN_KEYS[:1]), random.Random(0)
    known = set()
    while (values := choices.unseen(known, rng)) is not None:
        known.add(choices.network(values))
    assert len(known) == choices.size == 3
