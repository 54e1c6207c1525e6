"""The JSON schema and the reference page agree with what the loader takes."""

from pathlib import Path

import jsonschema
import pytest

from expflow.config import json_schema
from expflow.config.reading import read
from expflow.config.reference import render
from expflow.config.schema import Experiment
from expflow.config.tree import plain
from expflow.registry import SLOTS
from tests.config.files import BASE, write

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("experiments/**/*.yaml"))


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_experiment_is_valid(validator, file):
    validator.validate(plain(read(file)[1]))


LONG = """\
about: {question: Which?, time: 8 GPUs, a day}
extends: [recipes/imagenet.yaml]
resources: {ranks: 1}
model: {depth: 50}
sweep:
  space:
    model:
      - {name: resnet, depth: 50}
      - mlp
    optimizer.name: [sgd, lamb]
    optimizer.lr: {loguniform: [0.01, 2.0]}
    optimizer.momentum: {uniform: [0.8, 0.95], when: {optimizer.name: sgd}}
    data.batch_size: {int: [1, 8], log: true}
  seeds: [0, 4]
  searcher: {name: random, trials: 40}
  scheduler: none
  metric: val/top1
"""


@pytest.mark.parametrize("text", [BASE, LONG, BASE.replace("data: digits", "data: {name: 'own:Data', any: 1}")])
def test_what_the_loader_takes_is_valid(validator, tmp_path, text):
    validator.validate(plain(read(write(tmp_path, text.replace("8 GPUs, a day", "long")))[1]))


@pytest.mark.parametrize(
    "change",
    [
        ("model: {name: resnet, depth: 20}", "model: {name: resnet, dept: 20}"),
        ("model: {name: resnet, depth: 20}", "model: {name: resnet, depth: deep}"),
        ("data: digits", "data: digitz"),
        ("data: digits", "dta: digits"),
        ("task: classification", "sweep: {space: {model.depth: 3}}"),
        ("task: classification", "task: classification\nsweep: {space: {model.depth: {unifrom: [1, 2]}}}"),
        ("task: classification", "task: classification\nsweep: {seeds: 0}"),
    ],
)
def test_what_it_refuses_is_not(validator, tmp_path, change):
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(plain(read(write(tmp_path, BASE.replace(*change)))[1]))


def test_editors_complete_searched_keys():
    keys = json_schema()["properties"]["sweep"]["properties"]["space"]["properties"]
    assert "6n + 2" in keys["model.depth"]["description"]
    assert "optimizer.lr" in keys
    assert "data.workers" not in keys


def test_every_key_is_described():
    schema = json_schema()
    silent = [key for key, value in schema["properties"].items() if not value.get("description")]
    for name, component in schema["$defs"].items():
        silent += [
            f"{name}.{key}" for key, value in component.get("properties", {}).items() if not value.get("description")
        ]
    assert silent == []


def test_the_reference_page_names_every_key_and_component():
    page = render()
    for key in set(Experiment.model_fields) - {"file"}:
        assert f"`{key}`" in page
    for slot, registry in SLOTS.items():
        for name in registry.names():
            assert f"### {slot}: {name}" in page


def test_the_reference_page_is_current():
    """`python -m expflow.config.reference > docs/reference/experiment.md` writes it anew."""
    assert (ROOT / "docs/reference/experiment.md").read_text() == render()
