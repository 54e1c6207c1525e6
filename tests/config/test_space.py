import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expflow.config.schema import Dimension
from expflow.config.space import (
    contains,
    grid,
    grid_size,
    in_condition_order,
    probe_configs,
    range_notes,
    same_value,
    sample,
)
from expflow.errors import UserError
from tests.config.files import BASE, loaded

KEYS = "abcde"


@st.composite
def spaces(draw):
    """Up to five dimensions; each may wait for any earlier one in a hidden order, and the file's order is another."""
    space = []
    for index, key in enumerate(KEYS[: draw(st.integers(1, 5))]):
        when = {}
        for earlier in space:
            if index and draw(st.booleans()) and draw(st.booleans()):
                when[earlier.key] = tuple(draw(st.lists(st.sampled_from([0, 1, 2, "x"]), min_size=1, max_size=2)))
        if draw(st.booleans()):
            values = tuple(draw(st.lists(st.sampled_from([0, 1, 2, "x"]), min_size=1, max_size=4)))
            space.append(Dimension(key=key, kind="choice", values=values, when=when))
        else:
            low = draw(st.integers(0, 2))
            step = draw(st.integers(1, 2))
            space.append(
                Dimension(key=key, kind="int", low=low, high=low + draw(st.integers(1, 3)), step=step, when=when)
            )
    return draw(st.permutations(space))


def values_of(dimension):
    if dimension.kind == "choice":
        return list(dict.fromkeys(dimension.values))
    return list(range(int(dimension.low), int(dimension.high) + 1, dimension.step))


def by_brute_force(space):
    """All combinations, inactive keys removed until nothing changes, each once."""
    configs = []
    for combination in itertools.product(*(values_of(dimension) for dimension in space)):
        config = dict(zip((dimension.key for dimension in space), combination, strict=True))
        while True:
            dead = [
                dimension.key
                for dimension in space
                if dimension.key in config
                and any(key not in config or config[key] not in on for key, on in dimension.when.items())
            ]
            if not dead:
                break
            for key in dead:
                del config[key]
        if config not in configs:
            configs.append(config)
    return configs


@given(spaces())
@settings(max_examples=150)
def test_a_grid_holds_every_config_once_and_its_size_is_known_before(space):
    configs = list(grid(space))
    expected = by_brute_force(space)
    assert len(configs) == len(expected) == grid_size(space)
    assert all(config in expected for config in configs)
    assert grid_size(space, seeds=range(3)) == 3 * len(configs)


@given(spaces(), st.integers(0, 1000))
def test_a_sample_is_a_config_of_the_grid(space, seed):
    config = sample(space, random.Random(seed))
    assert config in list(grid(space))
    assert config == sample(space, random.Random(seed))
    assert list(config) == [dimension.key for dimension in space if dimension.key in config]


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e6), st.integers(0, 2**32))
def test_intervals_are_kept(low, factor, seed):
    rng = random.Random(seed)
    for kind in ("uniform", "loguniform"):
        dimension = Dimension(key="a", kind=kind, low=low, high=low * factor)
        assert contains(dimension, sample([dimension], rng)["a"])


def test_whole_numbers_on_a_log_scale_reach_both_ends():
    dimension = Dimension(key="a", kind="int", low=1, high=8, log=True)
    rng = random.Random(0)
    drawn = [sample([dimension], rng)["a"] for _ in range(2000)]
    assert set(drawn) == set(range(1, 9))
    assert drawn.count(1) > drawn.count(8)


def test_the_last_key_of_the_file_runs_fastest():
    space = [Dimension(key=key, kind="choice", values=(1, 2)) for key in "ab"]
    assert [tuple(config.values()) for config in grid(space)] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_huge_grid_is_counted_without_expanding_it():
    space = [Dimension(key=f"k{index}", kind="int", low=1, high=10**6) for index in range(9)]
    switch = Dimension(key="on", kind="choice", values=(True, False))
    waiting = Dimension(key="w", kind="int", low=1, high=3, when={"on": (True,)})
    assert grid_size([*space, switch, waiting]) == 10**54 * 4


def test_many_conditions_are_counted_quickly():
    flags = [Dimension(key=f"f{index}", kind="choice", values=(0, 1)) for index in range(40)]
    waiting = [
        Dimension(key=f"w{index}", kind="choice", values=(0, 1), when={f"f{index}": (1,)}) for index in range(40)
    ]
    assert grid_size([*flags, *waiting]) == 3**40


def test_true_is_not_one():
    assert not same_value(True, 1)
    assert same_value(1, 1.0)
    assert same_value({"a": [1]}, {"a": [1]})
    assert not same_value("1", 1)


def test_a_circle_of_conditions_is_refused():
    space = [Dimension(key=a, kind="choice", values=(1,), when={b: (1,)}) for a, b in ("ab", "ba")]
    with pytest.raises(UserError, match="circle: a, b"):
        in_condition_order(space)


def test_probes_show_every_choice_and_both_ends():
    space = [
        Dimension(key="name", kind="choice", values=("x", "y")),
        Dimension(key="rate", kind="loguniform", low=0.1, high=1.0),
        Dimension(key="only", kind="int", low=1, high=9, when={"name": ("y",)}),
    ]
    configs = probe_configs(space)
    assert {config["rate"] for config in configs} == {0.1, 1.0}
    assert {config.get("only") for config in configs} == {None, 1, 9}
    assert (
        len(probe_configs([Dimension(key=key, kind="choice", values=tuple(range(20))) for key in "abc"], most=50)) == 50
    )


def test_a_condition_on_a_part_of_a_searched_mapping(tmp_path):
    text = (
        BASE
        + """\
sweep:
  space:
    model: [{name: resnet, depth: 8}, {name: resnet, depth: 14, shortcut: none}, {name: mlp}]
    model.width: {choice: [8, 16], when: {model.name: resnet}}
    optimizer.lr: {choice: [0.1, 0.2], when: {model.shortcut: pad}}
    data.batch_size: {choice: [32, 64], when: {optimizer.name: [sgd, adam]}}
"""
    )
    experiment = loaded(tmp_path, text)
    configs = experiment.grid()
    assert len(configs) == 2 * (2 * 2 + 2 + 1)
    assert [dimension.when for dimension in experiment.experiment.sweep.space][3] == {}
    assert {experiment.configure(values).model.width for values in configs if values["model"]["name"] == "resnet"} == {
        8,
        16,
    }


def test_conditions_may_come_before_what_they_name(tmp_path):
    text = (
        BASE
        + """\
sweep:
  space:
    optimizer.momentum: {choice: [0.5, 0.9], when: {optimizer.nesterov: true}}
    optimizer.nesterov: {choice: [true, false], when: {optimizer.name: sgd}}
    optimizer.name: [sgd, adam]
"""
    )
    experiment = loaded(tmp_path, text, ["optimizer.momentum=0.1"])
    assert experiment.grid() == [
        {"optimizer.momentum": 0.5, "optimizer.nesterov": True, "optimizer.name": "sgd"},
        {"optimizer.momentum": 0.9, "optimizer.nesterov": True, "optimizer.name": "sgd"},
        {"optimizer.nesterov": False, "optimizer.name": "sgd"},
        {"optimizer.name": "adam"},
    ]


@pytest.mark.parametrize(
    ("low", "high", "step", "note"),
    [
        (1, 8, 2, "sweep.space.model.depth: 8 is never taken: steps of 2 from 1 end at 7"),
        (0, 10, 3, "sweep.space.model.depth: 10 is never taken: steps of 3 from 0 end at 9"),
        (1, 2, 5, "sweep.space.model.depth: 2 is never taken: steps of 5 from 1 end at 1"),
        (1, 9, 2, ""),
        (1, 8, 1, ""),
    ],
)
def test_an_end_that_the_step_never_reaches_is_named(low, high, step, note):
    dimension = Dimension(key="model.depth", kind="int", low=low, high=high, step=step)
    assert "".join(range_notes([dimension])) == note
