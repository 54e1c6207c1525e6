"""The reference page of experiment files, from the descriptions of the fields themselves.

``python -m expflow.config.reference > docs/reference/experiment.md`` writes it anew.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from expflow.config.initial import Init
from expflow.config.jsonschema import model_schema
from expflow.config.schema import About, Budget, Contrast, Experiment, Figure, Resources, Sweep, Trainer
from expflow.config.spec import Open, role_of
from expflow.registry import SCHEDULERS, SEARCHERS, SLOTS, Registry

HEAD = """\
# Experiment files

One YAML file is one experiment. This page is written by `python -m expflow.config.reference` from the same descriptions
that messages, `expflow schema` and editors use.

The column *role* says what a key is for: **identity** keys are what is compared, and another value is another config;
a larger **budget** extends the same trial; **execution** keys say where and how things run and are part of no id.

## How values come together

- YAML 1.2: `1e-4` is a number, `no` is text, a duplicate key is an error. Aliases, anchors and tags are not read.
- `extends: FILE` (or a list, later ones win) takes over the keys of other files, except `name`, `about`, `sweep` and
  `report`; `--set key=value` comes last. A path is seen from the file that names it.
- One merge rule for `extends`, `--set` and searched values: a mapping with a different `name` replaces what was there,
  otherwise mappings merge; `null` deletes; a bare word where a component stands means `{name: word}`.
- A component's name is one of those below, or your own `package.module:Name`; what lies in the folder of the YAML file
  can be imported. A slot may also map names of yours to components: `model: {generator: {…}, critic: {…}}`.
"""

SPACE = """\
## sweep.space

A dotted recipe key, and the values to search. Whole mappings may be values, too.

| form | meaning |
|---|---|
| `[8, 20, 56]` or `{choice: [8, 20, 56]}` | one of these |
| `{uniform: [0.8, 0.95]}` | any number between, both ends included |
| `{loguniform: [0.01, 2.0]}` | any number between, evenly on a log scale |
| `{int: [1, 8], step: 1, log: false}` | any whole number between, both ends included |
| `{…, when: {optimizer.name: sgd}}` | only where another key has this value, or one of a list; all must hold |

A key whose condition does not hold is absent, and makes no second config. Only identity keys can be searched.
"""


def render() -> str:
    """The whole page, as Markdown."""
    blocks = [HEAD, "## The file", _top()]
    for title, cls in (
        ("about", About),
        ("init", Init),
        ("trainer", Trainer),
        ("resources", Resources),
        ("sweep", Sweep),
    ):
        blocks += [f"## {title}", _described(cls), _table(cls)]
    blocks += ["### sweep.budget", _described(Budget), _table(Budget)]
    blocks += [SPACE, "## report", "What the report shows.", "### report.figures", _described(Figure), _table(Figure)]
    blocks += ["### report.contrasts", _described(Contrast), _table(Contrast)]
    for registry in (*SLOTS.values(), SEARCHERS, SCHEDULERS):
        blocks += list(_components(registry))
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _described(cls: type[BaseModel]) -> str:
    return inspect.cleandoc(cls.__doc__ or "").replace("``", "`")


def _top() -> str:
    rows = [("extends", "File or files whose keys this one takes over.")]
    rows += [(name, field.description or "") for name, field in Experiment.model_fields.items() if name != "file"]
    return "\n".join(["| key | meaning |", "|---|---|", *(f"| `{key}` | {_cell(text)} |" for key, text in rows)])


def _components(registry: Registry) -> Iterator[str]:
    kind = registry.kind
    yield f"## {kind} components" if kind in SLOTS else f"## sweep.{kind} components"
    for name in [*registry.names(), *(f"{prefix}<name>" for prefix in registry.prefixes())]:
        spec = registry.spec(name)
        yield f"### {kind}: {name}"
        yield _described(spec)
        yield _table(spec, skip=("name",))


def _table(cls: type[BaseModel], skip: tuple[str, ...] = ()) -> str:
    """One row for each field: key, type, default, role, meaning."""
    skip = (*skip, *getattr(cls, "derived", ())) if cls is Sweep else skip
    fields = {name: field for name, field in cls.model_fields.items() if name not in skip}
    if not fields:
        return "Its arguments are its package's." if issubclass(cls, Open) else "It takes no arguments."
    rows = ["| key | value | default | role | meaning |", "|---|---|---|---|---|"]
    types = _types(cls)
    for name, field in fields.items():
        key = field.alias or name
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        if field.validate_default:
            default = "auto"  # its spec derives it from other fields
        if cls is Sweep:
            default = SWEEP_DEFAULTS.get(name, default)
        rows.append(f"| `{key}` | {types[key]} | {default} | {role_of(cls, name)} | {_cell(field.description or '')} |")
    return "\n".join(rows)


SWEEP_TYPES = {
    "space": "mapping of keys to values",
    "seeds": "count, list of whole numbers, or `{screen: 1, confirm: 5, top: 4}`",
    "budget": "mapping: `trials`, `hours`, `device_hours`",
    "searcher": "component",
    "scheduler": "component",
}
SWEEP_DEFAULTS = {"seeds": "`1`", "searcher": "`grid`"}


def _types(cls: type[BaseModel]) -> dict[str, str]:
    if cls is Sweep:  # read by hand: its model holds what they become
        return {name: SWEEP_TYPES.get(name, "text") for name in Sweep.model_fields} | {
            "mode": "`max` or `min`",
            "select": "`last` or `best_epoch`",
        }
    properties = model_schema(cls, {})["properties"]
    return {key: _type(schema) for key, schema in properties.items()}


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " \\| ".join(f"`{each}`" for each in schema["enum"] if each is not None)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each) for each in schema["anyOf"] if each.get("type") != "null"))
    if "$ref" in schema:
        return "mapping"
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    kind = str(schema.get("type", "any value"))
    if kind == "array":
        inner = _type(schema["items"]) if isinstance(schema.get("items"), dict) and schema["items"] else "value"
        return f"list of: {inner}"
    return words.get(kind, "mapping" if kind == "object" else kind) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f" ({', '.join(found)})" if found else ""


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "its own"
    if isinstance(value, tuple | list | dict) and not value:
        return "empty"
    return f"`{json.dumps(value, default=str)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
