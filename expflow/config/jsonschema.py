"""The JSON schema of experiment files as they are written: what editors complete from (`expflow schema`).

It is a little more lenient than the loader, because a file that extends others may give parts of anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from expflow.config.child_space import OPERATION_SETS, OPERATIONS, OUTPUT_RULES
from expflow.config.initial_weights import Init
from expflow.config.report_settings import ReportSettings
from expflow.config.resources import Resources
from expflow.config.schema import (
    About,
    Budget,
    Dimension,
    Experiment,
    NetworkLimits,
    Proxies,
    Sweep,
    SweepCheckpoints,
    Tracking,
    Trainer,
)
from expflow.config.spec import former_keys, role_of
from expflow.registry import SCHEDULERS, SEARCHERS, SLOTS, Registry

USER_COMPONENT_NAME = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

JSON = dict[str, Any]


def json_schema() -> JSON:
    """The schema of one experiment file, JSON Schema draft 2020-12."""
    defs: JSON = {"dimension": _dimension()}
    descriptions = {name: field.description or "" for name, field in Experiment.model_fields.items()}
    properties: JSON = {
        "extends": {
            "description": "File or files whose keys this one takes over; a later one wins, this file over all.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        "name": {"type": "string", "description": descriptions["name"]},
        "about": _section(About, defs),
        **{slot: _slot(registry, descriptions[slot], defs) for slot, registry in SLOTS.items()},
        "init": _section(Init, defs),
        "trainer": _section(Trainer, defs),
        "resources": _section(Resources, defs),
        "sweep": _sweep(defs),
        "report": _section(ReportSettings, defs),
        "tracking": _section(Tracking, defs),
        "storage": {"type": ["string", "null"], "description": descriptions["storage"]},
    }
    return {
        "$schema": DRAFT,
        "title": "expflow experiment",
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": ["task"]}, {"required": ["extends"]}],
        "properties": properties,
        "$defs": defs,
    }


def model_schema(cls: type[BaseModel], defs: JSON) -> JSON:
    """A model's own schema without titles and roles.

    Args:
        cls: The model.
        defs: The schemas of the models inside of it are added here, by name.
    """
    schema = cls.model_json_schema(ref_template="#/$defs/{model}")
    for name, inner in schema.pop("$defs", {}).items():
        defs[name] = _tidy(inner)
    tidy: JSON = _tidy(schema)
    return tidy


def _tidy(schema: Any, *, names: bool = False) -> Any:
    """The schema without pydantic's titles and our roles; ``names`` where the keys are the user's, not the schema's."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    drop = () if names else ("title", "role", "former")
    return {
        key: _tidy(value, names=key == "properties" and not names) for key, value in schema.items() if key not in drop
    }


def _section(cls: type[BaseModel], defs: JSON) -> JSON:
    """A section of the file; null deletes what a file that it extends says."""
    schema = model_schema(cls, defs)
    return {**schema, "type": ["object", "null"]}


def _component(registry: Registry, name: str, defs: JSON) -> JSON:
    spec = registry.spec(name)
    schema = model_schema(spec, defs)
    names = [name, *(preset.name for preset in registry.presets.values() if preset.component == name)]
    described = {"description": schema.get("description", "")}
    schema["properties"]["name"] = {"enum": names, **described} if names[1:] else {"const": name, **described}
    for former, key in former_keys(spec).items():
        present = schema["properties"][key]
        schema["properties"][former] = {**present, "description": f"Earlier name of {key}.", "deprecated": True}
    for field in schema["properties"].values():
        _allow_null(field)
    schema["required"] = ["name"]
    return schema


def _allow_null(field: JSON) -> None:
    if isinstance(field.get("type"), str):
        field["type"] = [field["type"], "null"]
        if "enum" in field:
            field["enum"] = [*field["enum"], None]


def _choices(registry: Registry, defs: JSON, *, users: bool) -> list[JSON]:
    """A component as a bare name, or as a mapping with its name and arguments."""
    kind = registry.kind
    for name in registry.names():
        defs[f"{kind}.{name}"] = _component(registry, name, defs)
    choices: list[JSON] = [{"enum": [*registry.names(), *registry.presets]}]
    choices += [{"$ref": f"#/$defs/{kind}.{name}"} for name in registry.names()]
    choices += [schema for prefix in registry.prefixes() for schema in _below(registry, prefix, defs)]
    if users:
        named: JSON = {"type": "string", "pattern": USER_COMPONENT_NAME, "description": "Your own package.module:Name."}
        choices += [named, {"type": "object", "required": ["name"], "properties": {"name": named}}]
    return choices


def _below(registry: Registry, prefix: str, defs: JSON) -> list[JSON]:
    """The components whose names begin with ``prefix``: as a bare name, or as a mapping."""
    key = f"{registry.kind}.{prefix.rstrip('/')}"
    named: JSON = {"type": "string", "pattern": f"^{re.escape(prefix)}.+$"}
    schema = _component(registry, f"{prefix}<name>", defs)
    schema["properties"]["name"] = {**named, "description": schema.get("description", "")}
    defs[key] = schema
    return [named, {"$ref": f"#/$defs/{key}"}]


def _slot(registry: Registry, description: str, defs: JSON) -> JSON:
    defs[registry.kind] = {"anyOf": _choices(registry, defs, users=True)}
    unnamed: JSON = {
        "description": "Your own names of several components, or a part of what an extended file says.",
        "type": "object",
        "not": {"required": ["name"]},
    }
    return {"description": description, "anyOf": [{"$ref": f"#/$defs/{registry.kind}"}, unnamed, {"type": "null"}]}


def searchable_key_descriptions() -> Iterator[tuple[str, str]]:
    """Every dotted key that a search space may hold, and what it means in each component that has it."""
    for slot, registry in SLOTS.items():
        meanings: dict[str, dict[str, list[str]]] = {}
        for name in registry.names():
            spec = registry.spec(name)
            for key, field in spec.model_fields.items():
                if role_of(spec, key) == "identity" and key != "name":
                    of_key = meanings.setdefault(field.alias or key, {})
                    of_key.setdefault(field.description or "", []).append(name)
        yield slot, f"Whole components for the slot {slot}."
        yield f"{slot}.name", f"Names for the slot {slot}."
        for key, of_key in meanings.items():
            yield f"{slot}.{key}", " ".join(f"{', '.join(names)}: {text}" for text, names in of_key.items())


def _space(description: str) -> JSON:
    dimension: JSON = {"$ref": "#/$defs/dimension"}
    return {
        "description": description,
        "type": ["object", "null"],
        "properties": {key: {"description": text, **dimension} for key, text in searchable_key_descriptions()},
        "additionalProperties": dimension,
    }


def _seeds(description: str) -> JSON:
    counts = {key: {"type": "integer", "minimum": 1} for key in ("screen", "confirm", "top")}
    screening: JSON = {
        "type": "object",
        "required": list(counts),
        "properties": counts,
        "additionalProperties": False,
    }
    listed: JSON = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
    return {"description": description, "anyOf": [{"type": "integer", "minimum": 1}, listed, screening]}


def _sweep(defs: JSON) -> JSON:
    described = {name: field.description or "" for name, field in Sweep.model_fields.items()}
    mode: JSON = {"enum": ["max", "min", None]}
    properties: JSON = {
        "space": _space(described["space"]),
        "seeds": _seeds(described["seeds"]),
        "searcher": {"description": described["searcher"], "anyOf": _choices(SEARCHERS, defs, users=False)},
        "scheduler": {
            "description": described["scheduler"],
            "anyOf": [*_choices(SCHEDULERS, defs, users=False), {"type": "null"}],
        },
        "metric": {
            "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}],
            "default": Sweep.model_fields["metric"].default,
            "description": described["metric"],
        },
        "mode": {"anyOf": [mode, {"type": "array", "items": mode}], "description": described["mode"]},
        "select": {"enum": ["last", "best_epoch"], "description": described["select"]},
        "budget": {**model_schema(Budget, defs), "description": described["budget"]},
        "limits": {**model_schema(NetworkLimits, defs), "description": described["limits"]},
        "proxies": {**model_schema(Proxies, defs), "description": described["proxies"]},
        "checkpoints": {**model_schema(SweepCheckpoints, defs), "description": described["checkpoints"]},
    }
    return {
        "description": "The search space, and who chooses in it.",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": properties,
    }


def _child_forms() -> list[JSON]:
    """The forms that stand for all choices of a child."""
    number: JSON = {"type": "integer", "minimum": 1}
    numbers: JSON = {"anyOf": [number, {"type": "array", "minItems": 1, "items": number}]}
    operations: JSON = {
        "anyOf": [
            {"enum": list(OPERATION_SETS)},
            {"type": "array", "minItems": 1, "items": {"enum": list(OPERATIONS)}},
        ]
    }
    layers: JSON = {
        **dict.fromkeys(("count", "height", "width", "stride", "filters"), numbers),
        "skips": {"type": "boolean"},
    }
    cell: JSON = {"nodes": number, "operations": operations, "outputs": {"enum": list(OUTPUT_RULES)}}

    def form(name: str, properties: JSON, required: list[str], description: str) -> JSON:
        inner = {
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": False,
            "description": description,
        }
        return {"type": "object", "required": [name], "properties": {name: inner}, "additionalProperties": False}

    counted = ["count", "height", "width", "filters"]
    return [
        form("layers", layers, counted, "Every choice of a child's layers; see docs/search.md."),
        form("cell", cell, ["nodes"], "Every choice of a child's cell; see docs/search.md."),
    ]


def _dimension() -> JSON:
    """The forms of a searched key's values."""
    fields = {name: field.description or "" for name, field in Dimension.model_fields.items()}
    ends: JSON = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    whole: JSON = {**ends, "items": {"type": "integer"}}
    when: JSON = {"description": fields["when"], "type": "object"}

    def form(name: str, values: JSON, description: str, more: JSON | None = None) -> JSON:
        properties = {name: {**values, "description": description}, "when": when, **(more or {})}
        return {"type": "object", "required": [name], "properties": properties, "additionalProperties": False}

    listed: JSON = {"type": "array", "minItems": 1, "description": fields["values"]}
    steps: JSON = {
        "step": {"type": "integer", "minimum": 1, "description": fields["step"]},
        "log": {"type": "boolean", "description": fields["log"]},
    }
    return {
        "anyOf": [
            listed,
            form("choice", listed, fields["values"]),
            form("uniform", ends, "Any number between two, both included."),
            form("loguniform", ends, "Any number between two, evenly on a log scale."),
            form("int", whole, "Any whole number between two, both included.", steps),
            *_child_forms(),
            {"type": "null"},
        ]
    }
