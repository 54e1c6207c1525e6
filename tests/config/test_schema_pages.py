"""The JSON schema and the reference page agree with what the loader takes."""

import re
from pathlib import Path

import jsonschema
import pytest
import typer.main

from expflow.cli import app
from expflow.config import json_schema
from expflow.config.initial_weights import Init
from expflow.config.reference import render, render_site
from expflow.config.schema import Dimension, Experiment, Trainer
from expflow.config.site import Site, load_site
from expflow.config.spec import Spec
from expflow.config.tree import plain
from expflow.config.validation import model_in
from expflow.config.yaml_reader import read
from expflow.registry import SCHEDULERS, SEARCHERS, SLOTS
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


def models_of(cls, seen):
    """Every model that stands in a field of ``cls``, down to the last level; components are read elsewhere."""
    for name, field in cls.model_fields.items():
        inner = model_in(field.annotation)
        if inner is None or inner in seen or issubclass(inner, Spec | Dimension) or name == "confirm":
            continue
        seen.add(inner)
        models_of(inner, seen)
    return seen


def tables(page):
    """The keys of each table of a page."""
    return [
        {line.split("`")[1] for line in block.splitlines()[2:]}
        for block in page.split("\n\n")
        if block.startswith("| key | value |")
    ]


def test_every_key_has_its_table_down_to_the_last_level():
    components = [
        registry.spec(name)
        for registry in (*SLOTS.values(), SEARCHERS, SCHEDULERS)
        for name in (*registry.names(), *(f"{prefix}x" for prefix in registry.prefixes()))
    ]
    every = {model for cls in (Experiment, *components) for model in models_of(cls, set())}
    assert {"Checkpointing", "RandAugment", "ResNetStage", "Action", "WarmStart"} <= {cls.__name__ for cls in every}
    shown = tables(render())
    for cls in every - {Trainer, Init}:
        filled_in = getattr(cls, "filled_in", ())
        keys = {field.alias or name for name, field in cls.model_fields.items() if name not in filled_in}
        assert keys in shown, cls.__name__


def test_links_of_the_reference_lead_to_its_headings():
    page = render()
    anchors = {
        "".join(letter for letter in line.lstrip("# ").lower().replace(" ", "-") if letter.isalnum() or letter in "-_")
        for line in page.splitlines()
        if line.startswith("#")
    }
    links = {link.split(")")[0] for link in page.split("](#")[1:]}
    assert links
    assert links <= anchors


def test_the_site_page_is_current():
    """`python -m expflow.config.reference site > docs/reference/site.md` writes it anew."""
    assert (ROOT / "docs/reference/site.md").read_text() == render_site()


def test_the_site_page_has_every_key_with_its_variable(tmp_path):
    page = render_site()
    for name in Site.model_fields:
        assert f"| `{name}` |" in page
        if name == "clusters":  # a launcher's keys differ, and a variable could not say whose they are
            continue
        suffix = {"data": "_<SOURCE>", "metrics": "_<KEY>", "resources": "_<KEY>"}.get(name, "")
        assert f"`EXPFLOW_{name.upper()}{suffix}`" in page
    environment = {"HOME": str(tmp_path), "EXPFLOW_PRICE": "3", "EXPFLOW_RESOURCES_RANKS": "2"}
    site = load_site(tmp_path, environment)
    assert (site.price, site.resources.ranks) == (3, 2)


def test_every_variable_that_the_code_reads_is_on_the_site_page():
    sources = [path.read_text() for path in (ROOT / "expflow").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'"(EXPFLOW_[A-Z]+(?:_[A-Z]+)*)"', text)}
    assert {"EXPFLOW_DEBUG", "EXPFLOW_HOOKS", "EXPFLOW_CONTINUE"} <= named
    assert not [name for name in named if f"`{name}`" not in render_site()]


OPTIONS = {
    # option of a command -> the key that means the same
    ("data build", "--max-bad"): ("data", "bad_limit"),
    ("data build", "--max-side"): ("data", "max_side"),
    ("data build", "--quality"): ("data", "quality"),
    ("data build", "--from"): ("data", "path"),
}


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda part: part)
def test_options_and_keys_that_mean_the_same_name_each_other(command, option):
    slot, key = OPTIONS[command, option]
    group, verb = command.split()
    parameters = typer.main.get_command(app).commands[group].commands[verb].params
    text = next(parameter.help for parameter in parameters if option in parameter.opts)
    assert f"{slot}.{key}" in text
    described = [
        spec.model_fields[key].description
        for name in SLOTS[slot].names()
        if key in (spec := SLOTS[slot].spec(name)).model_fields
    ]
    assert described
    assert all(option in text for text in described)


def test_the_storage_option_and_its_keys_name_each_other():
    options = [
        parameter
        for command in typer.main.get_command(app).commands.values()
        for parameter in command.params
        if "--storage" in parameter.opts
    ]
    assert len(options) > 5
    assert all("key storage" in option.help and "EXPFLOW_STORAGE" in option.help for option in options)
    assert "--storage" in Experiment.model_fields["storage"].description
    assert "--storage" in Site.model_fields["storage"].description
