"""The public surface, frozen: verbs with arguments and flags, YAML keys with type and default, the Python API.

A change of it is a decision. Once it is taken, `.venv/bin/python tests/test_surface.py` writes tests/surface.txt anew.
"""

import difflib
import inspect
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
from pydantic import BaseModel

import expflow
from expflow import errors
from expflow.api import ExperimentHandle, Results
from expflow.cli import app
from expflow.config.jsonschema import json_schema
from expflow.config.schema import Experiment, Sweep
from expflow.config.spec import PassthroughSpec, role_of
from expflow.config.validation import model_in
from expflow.registry import LAUNCHERS, SCHEDULERS, SEARCHERS, SLOTS

FROZEN = Path(__file__).with_name("surface.txt")

VERBS = set("init plan train sweep submit status logs stop report show test ui data models doctor schema".split())  # noqa: SIM905


def commands(command, path):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def parameters(command):
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield f"{parameter.name}" if parameter.required else f"[{parameter.name}]"
        else:
            yield "/".join(sorted([*parameter.opts, *parameter.secondary_opts], key=len, reverse=True))


def verbs():
    root = typer.main.get_command(app)
    return sorted(f"{path}: {' '.join(parameters(command))}".rstrip() for path, command in commands(root, "expflow"))


def type_words(annotation):
    """An annotation in words that no version of Python or pydantic changes."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(inside[0])
    if origin is Literal:
        return " | ".join(map(repr, inside))
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(type_words, inside)))
    if origin is not None:
        kept = [type_words(part) for part in inside if part is not Ellipsis]
        return f"{origin.__name__.lower()}[{', '.join(kept)}]"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return {Any: "any", type(None): "null"}.get(annotation) or getattr(annotation, "__name__", str(annotation))


def default_words(field):
    if field.is_required():
        return "required"
    if field.validate_default:
        return "auto"  # derived from other fields
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its keys' defaults"
    return "null" if value is None else repr(dict(value) if isinstance(value, dict) else value)


def keys(cls, prefix, *, skip=()):
    """A line for each key of a model, then those of the models in it."""
    for name, field in cls.model_fields.items():
        if name in skip:
            continue
        key, inner = f"{prefix}{field.alias or name}", model_in(field.annotation)
        yield f"{key}: {type_words(field.annotation)} = {default_words(field)} ({role_of(cls, name)})"
        if inner is not None:
            yield from keys(inner, f"{key}.")


def components():
    places = [
        *SLOTS.items(),
        ("sweep.searcher", SEARCHERS),
        ("sweep.scheduler", SCHEDULERS),
        ("clusters.NAME", LAUNCHERS),
    ]
    for place, registry in places:
        for name in [*registry.names(), *(f"{prefix}<name>" for prefix in registry.prefixes())]:
            spec = registry.spec(name)
            yield f"{place}.{name}" + (": any argument" if issubclass(spec, PassthroughSpec) else "")
            yield from keys(spec, f"{place}.{name}.", skip=("name",))


def file_keys():
    yield from sorted(set(Experiment.model_fields) - {"file"} | {"extends"})
    yield from keys(Experiment, "", skip=(*SLOTS, "sweep", "file", "name"))
    read_by_hand = ("space", "seeds", "searcher", "scheduler")
    yield from (f"sweep.{key}" for key in read_by_hand)
    yield from keys(Sweep, "sweep.", skip=(*Sweep.filled_in, *read_by_hand))
    for form in json_schema()["$defs"]["dimension"]["anyOf"]:
        yield f"sweep.space.KEY: {form['type']} {' '.join(form.get('properties', ()))}".rstrip()
    for form in json_schema()["properties"]["sweep"]["properties"]["seeds"]["anyOf"]:
        yield f"sweep.seeds: {form['type']} {' '.join(form.get('properties', ()))}".rstrip()


def members(cls):
    for name, member in sorted(vars(cls).items()):
        if name.startswith("_"):
            continue
        yield f"{cls.__name__}.{name}" + (str(inspect.signature(member)) if inspect.isfunction(member) else "")


def python_api():
    for name in expflow.__all__:
        member = getattr(expflow, name)
        yield f"expflow.{name}" + (str(inspect.signature(member)) if callable(member) else "")
    yield from members(ExperimentHandle)
    yield from members(Results)
    for name, member in vars(errors).items():
        if inspect.isclass(member) and issubclass(member, errors.ExpflowError):
            yield f"expflow.errors.{name}({member.__base__.__name__}): exit code {member.exit_code}"


def surface():
    parts = [
        ("Commands", verbs()),
        ("Experiment file", file_keys()),
        ("Components of an experiment file", components()),
        ("Python", python_api()),
    ]
    return "\n\n".join("\n".join([f"# {title}", *lines]) for title, lines in parts) + "\n"


def test_the_verbs():
    assert set(typer.main.get_command(app).commands) == VERBS


def test_nothing_changed_unnoticed():
    now, then = surface(), FROZEN.read_text()
    changes = "\n".join(difflib.unified_diff(then.splitlines(), now.splitlines(), "frozen", "now", lineterm="", n=0))
    assert not changes, f"the public surface changed:\n{changes}\nIf that is meant: python {Path(__file__).name}"


def test_everything_says_what_it_is():
    silent = []
    for path, command in commands(typer.main.get_command(app), "expflow"):
        silent += [path] * (not command.help)
        silent += [f"{path} {parameter.name}" for parameter in command.params if not getattr(parameter, "help", "")]
    assert not silent


if __name__ == "__main__":
    FROZEN.write_text(surface())
    print(FROZEN.read_text())
