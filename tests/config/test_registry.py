"""The contract of everything that YAML names: each declared component keeps it, and a lookup imports nothing heavy."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from expflow.config.identity import dump
from expflow.config.jsonschema import json_schema
from expflow.config.spec import Role, Spec, former_keys
from expflow.errors import UnknownName
from expflow.registry import LAUNCHERS, MODELS, REGISTRIES, Component, Registry

COMPONENTS = [(registry, name) for registry in REGISTRIES.values() for name in registry.names()]

STYLE = {"features": "x/best", "style": "a", "content_layer": "stem", "style_layers": ["stem"]}
NEEDED = {
    "style_transfer": STYLE,
    "fast_style_transfer": STYLE,
    "deep_dream": {"features": "x/best", "of": "a"},
    "replayed": {"table": "table.json.gz"},
    "pix2pix": {"condition": "edges"},
    "anomaly": {"left_out": "7"},
    "cyclegan": {"condition": "edges"},
    "densenet": {"depth": 40},
    "fcn": {"depth": 16},
    "deconvnet": {"depth": 16},
    "segnet": {"depth": 16},
    "resnet": {"depth": 20},
    "vgg": {"depth": 11},
    "multi_step": {"at": [3]},
    "step": {"every": 3},
    "triangular": {"half_cycle": 2},
    "random": {"trials": 3},
    "points": {"points": [{"optimizer.lr": 0.1}]},
    "tpe": {"trials": 3},
    "optuna": {"trials": 3, "sampler": "tpe"},
    "kuberay": {"image": "expflow:1", "claim": "storage"},
    **{name: {"trials": 3} for name in ("nsga2", "controller", "evolution", "local", "predictor")},
    "arms": {"search": "found", "random_children": 0},
    "ssh": {"hosts": ["desk"]},
}
"""Values of the keys without a default, by component."""

TWICE = (Component("net", "one:A"), Component("other", "one:B"), Component("net", "two:C"))

every_component = pytest.mark.parametrize(
    ("registry", "name"), COMPONENTS, ids=[f"{registry.kind}-{name}" for registry, name in COMPONENTS]
)


@pytest.fixture(scope="module")
def definitions():
    return json_schema()["$defs"]


def loaded_by(code):
    code += "\nimport sys\nprint(*sys.modules, sep='\\n')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_a_name_that_is_declared_twice_is_refused():
    registry = Registry("model", f"{__name__}:TWICE")
    with pytest.raises(ValueError, match="the model 'net' is declared twice: one:A and two:C"):
        registry.names()


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(UnknownName, match="no model is named 'resnett'; did you mean 'resnet'"):
        MODELS.spec("resnett")


def test_a_prefix_is_no_name_and_leads_to_its_family():
    assert "timm/" not in MODELS
    assert MODELS.spec("timm/resnet50") is MODELS.spec("timm/anything")
    assert "timm/" not in MODELS.names()
    assert MODELS.prefixes() == ["smp/", "timm/", "torchvision/"]


def test_looking_a_name_up_imports_no_spec_and_nothing_heavy():
    names = "from expflow.registry import REGISTRIES\nfor registry in REGISTRIES.values(): assert registry.names()"
    loaded = loaded_by(names)
    assert not {"torch", "ray", "optuna", "numpy", "ruamel"} & set(loaded)
    assert not [module for module in loaded if module.startswith("expflow.") and ".specs" in module]


def test_every_spec_is_imported_without_torch():
    specs = (
        "for registry in REGISTRIES.values():\n for name in registry.names() + [f'{p}x' for p in registry.prefixes()]"
    )
    loaded = loaded_by(f"from expflow.registry import REGISTRIES\n{specs}: registry.spec(name)")
    assert not {"torch", "torchvision", "timm", "ray", "optuna", "sklearn", "pytorch_lightning"} & set(loaded)


@every_component
def test_a_component_is_its_spec(registry, name):
    spec = registry.spec(name)
    assert issubclass(spec, Spec)
    assert spec.__doc__
    made = spec.model_validate({"name": name, **NEEDED.get(name, {})})
    assert made.name == name
    assert spec.model_validate(dump(made)) == made  # the defaults are values that a file may hold


@every_component
def test_every_field_says_what_it_is_and_has_one_role(registry, name):
    for key, field in registry.spec(name).model_fields.items():
        assert field.description, key
        assert field.json_schema_extra["role"] in get_args(Role), key


@every_component
def test_its_builder_is_there(registry, name):
    module, _, function = registry.spec(name).build.partition(":")
    if module:
        tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text())
        assert function in {getattr(statement, "name", "") for statement in tree.body}
    else:
        assert name in ("none", "scripted", "replayed")  # nothing is built for these


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        pytest.param(registry, name, id=f"{registry.kind}-{name}")
        for registry, name in COMPONENTS
        if registry is not LAUNCHERS  # they stand in the site file, which has no schema
    ],
)
def test_editors_complete_it(registry, name, definitions):
    schema = definitions[f"{registry.kind}.{name}"]
    fields = registry.spec(name).model_fields
    former = former_keys(registry.spec(name)).keys()
    assert set(schema["properties"]) == {field.alias or key for key, field in fields.items()} | former
    named = schema["properties"]["name"]
    assert named.get("const", named.get("enum", [""])[0]) == name
