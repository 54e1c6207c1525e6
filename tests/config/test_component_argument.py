"""One component, named on a command line."""

import pytest

from expflow.config.component_argument import parse_component
from expflow.errors import ExperimentInvalid


def test_keys_come_with_the_name_and_behind_it():
    spec = parse_component("model", "mlp,depth=2,hidden=9", ["hidden=7", "model.activation=tanh"])
    assert (spec.depth, spec.hidden, spec.activation) == (2, 7, "tanh")


def test_values_are_yaml_and_brackets_hold_together():
    spec = parse_component("loss", "cross_entropy,class_weights=[1.0, 2.5],label_smoothing=1e-1")
    assert (spec.class_weights, spec.label_smoothing) == ((1.0, 2.5), 0.1)


def test_null_deletes():
    assert parse_component("model", "mlp,hidden=9", ["hidden=null"]) == parse_component("model", "mlp")


@pytest.mark.parametrize(
    ("text", "sets", "message"),
    [
        ("nlp", [], "nlp: model.name: no model is named 'nlp'; nearest: mlp"),
        ("mlp", ["width=3"], "width=3: model.width: unknown key"),
        ("mlp,depth", [], "depth: expected key=value"),
        ("mlp", [".=3"], "expected key=value"),
        ("mlp", ["depth=[1"], "depth=[1"),
    ],
)
def test_what_is_wrong_is_said_with_the_part_that_is(text, sets, message):
    with pytest.raises(ExperimentInvalid) as raised:
        parse_component("model", text, sets)
    assert message in str(raised.value)
