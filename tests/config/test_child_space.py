"""Spaces of children in an experiment file: the dimensions that they stand for, and what is wrong with others."""

import random

import pytest

from expflow.config import config_id, config_text
from expflow.config.space import grid_size, sample
from expflow.errors import ExperimentInvalid
from tests.config.files import loaded

FILE = """
data: digits
model: child
task: classification
optimizer: {{name: sgd, lr: 0.1}}
sweep:
  space:
    {space}
  searcher: {{name: random, trials: 3}}
"""
LAYERS = (
    "model.layers: {layers: {count: [1, 2, 3], height: [1, 3], width: [3], stride: [1, 2], filters: [4, 8], "
    "skips: true}}"
)
CELL = "model.normal: {cell: {nodes: 2, operations: [conv_1x1, skip_connect], outputs: last}}"


def experiment(tmp_path, space):
    return loaded(tmp_path, FILE.format(space=space))


def test_a_space_of_layers_is_counted_sampled_and_made_into_children(tmp_path):
    experiment_ = experiment(tmp_path, LAYERS)
    space = experiment_.experiment.sweep.space
    assert grid_size(space) == 8 + 8**2 + 2 * 8**3
    values = sample(space, random.Random(1))
    recipe = experiment_.configure(values)
    assert recipe.model.layers == config_text(values).removeprefix("layers=")
    assert recipe.model.layers.count("n") == values["model.layers.count"]


def test_choices_that_describe_one_network_are_one_config(tmp_path):
    """The second node is the output; the first one is read by nothing, so its operations do not matter."""
    experiment_ = experiment(tmp_path, CELL)
    values = sample(experiment_.experiment.sweep.space, random.Random(0))
    values |= {"model.normal.3.in1": 0, "model.normal.3.in2": 1}
    ids = {
        config_id(experiment_.configure(values | {"model.normal.2.op1": one, "model.normal.2.op2": two}))
        for one in ("conv_1x1", "skip_connect")
        for two in ("conv_1x1", "skip_connect")
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("space", "key", "message"),
    [
        ("model.layers: {layers: {count: 2}}", "model.layers.layers.height", "expected whole numbers from 1 to 99"),
        ("model.layers: {layers: {hight: 2}}", "model.layers.layers.hight", "nearest valid key: height"),
        ("model.layers: {layers: 3}", "model.layers.layers", "expected a mapping of count, height"),
        ("model.layers: {layers: {count: 1}, when: {a: 1}}", "model.layers.when", "takes no other key"),
        (
            "model.normal: {cell: {nodes: 2, operations: [conv_1x2]}}",
            "model.normal.cell.operations",
            "nearest: conv_1x1",
        ),
        ("model.normal: {cell: {nodes: 0}}", "model.normal.cell.nodes", "from 1 to 12"),
        ("model.normal: {cell: {nodes: 2, outputs: some}}", "model.normal.cell.outputs", "unused, all, last"),
        (
            "{model.layers: {layers: {count: 1, height: 3, width: 3, filters: 2}}, model.layers.1.height: [1, 3]}",
            "model.layers.1.height",
            "holds this key, too",
        ),
        (
            "model.layers: {layers: {count: 1, height: [2, 3], width: [3], filters: [4]}}",
            "model.layers",
            "needs odd sides",
        ),
    ],
)
def test_a_space_that_is_written_wrongly_is_refused_at_its_place(tmp_path, space, key, message):
    with pytest.raises(ExperimentInvalid) as raised:
        experiment(tmp_path, space).check()
    problems = [problem for problem in raised.value.problems if problem.key.endswith(key) and problem.line >= 6]
    assert any(message in problem.message for problem in problems), raised.value
