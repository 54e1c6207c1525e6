"""The reference pages of experiment files and of the site file, from the descriptions of the fields themselves.

``python -m expflow.config.reference > docs/reference/experiment.md`` writes the one anew,
``python -m expflow.config.reference site > docs/reference/site.md`` the other.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from expflow.config.initial_weights import Init
from expflow.config.jsonschema import model_schema
from expflow.config.report_settings import ReportSettings
from expflow.config.resources import Resources
from expflow.config.schema import About, Dimension, Experiment, Sweep, Tracking, Trainer
from expflow.config.site import VARIABLE_PREFIX as SITE_PREFIX
from expflow.config.site import Site
from expflow.config.spec import PassthroughSpec, Spec, former_keys, role_of
from expflow.config.validation import model_in
from expflow.config.variables import OTHER_VARIABLES
from expflow.registry import LAUNCHERS, SCHEDULERS, SEARCHERS, SLOTS, Preset, Registry

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
| `{int: [1, 8], step: 1, log: false}` | whole numbers in steps from the lower end, which reach the upper one or not |
| `{layers: {count: [2, 3], height: [1, 3], width: 3, filters: [8, 16], skips: true}}` | a child's layers |
| `{cell: {nodes: 4, operations: darts, outputs: all}}` | a child's cell; [search.md](../search.md) has both |
| `{…, when: {optimizer.name: sgd}}` | only where another key has this value, or one of a list; all must hold |

A key whose condition does not hold is absent, and makes no second config. Only identity keys can be searched.
"""


SITE = """\
# The site file and the environment

What differs between machines stands in `expflow.site.yaml`, never in an experiment, and is part of no id. It is looked
for in the user's configuration folder (`$XDG_CONFIG_HOME/expflow/`, by default `~/.config/expflow/`) and in the folder
where the command runs; variables of the environment come last, and the later one wins, key by key. Relative folders are
seen from the file that names them, those of a variable from the folder where the command runs. The file does not travel
with a cluster job: each machine has its own.

This page is written by `python -m expflow.config.reference site` from the descriptions that messages use.

## expflow.site.yaml
"""

SITE_EXAMPLE = """\
```yaml
storage: /scratch/me/runs
cache: /local/cache
data: {imagenet: /data/ilsvrc, shards: s3://vision/imagenet}
mlflow: http://tracking:5000
resources: {cpus_per_rank: 4}
```
"""

CLUSTERS = """\
## clusters

A name of yours, and the launcher that reaches that cluster, with its `name` and its keys:
`clusters: {lab: {name: slurm, nodes: 2}}`. [docs/cluster.md](../cluster.md) says what each does.
"""

VARIABLES = """\
## Variables

Each key of the site file has a variable of its own, in capitals.

| variable | what it sets |
|---|---|
"""


class _Tables:
    """Writes tables; each model in a field gets a section of its own where it is met first, and links to it later.

    Args:
        elsewhere: Models whose tables stand on another page, with their addresses.
    """

    def __init__(self, elsewhere: Mapping[type[BaseModel], str] = MappingProxyType({})) -> None:
        self._links = dict(elsewhere)

    def section(self, heading: str, cls: type[BaseModel], key: str, *, skip: tuple[str, ...] = ()) -> Iterator[str]:
        """Heading, description and table of a model, then those of the models in its fields.

        Args:
            heading: With its number signs.
            cls: The model.
            key: The dotted key at which it stands.
            skip: Fields that are left out.
        """
        nested = dict(self._new_models(cls, key, heading, skip))
        yield heading
        yield _described(cls)
        yield self._table(cls, skip)
        for inner_heading, (inner_key, inner) in nested.items():
            yield from self.section(inner_heading, inner, inner_key)

    def _new_models(
        self, cls: type[BaseModel], key: str, above: str, skip: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, type[BaseModel]]]]:
        """Heading -> (key, model) of the models in the fields that have no section yet."""
        level, component = above.partition(" ")[0], above.partition(": ")[2]
        for name, field in cls.model_fields.items():
            inner = _model_of_section(field.annotation)
            if name in skip or inner is None or inner in self._links:
                continue
            inner_key = ".".join(filter(None, (key, field.alias or name)))
            title = f"{inner_key} (of {component})" if component else inner_key
            self._links[inner] = f"#{_anchor(title)}"
            yield f"{level if level == '####' or not component else level + '#'} {title}", (inner_key, inner)

    def _table(self, cls: type[BaseModel], skip: tuple[str, ...]) -> str:
        """One row for each field: key, type, default, role, meaning."""
        skip = (*skip, *Sweep.filled_in) if cls is Sweep else skip
        fields = {name: field for name, field in cls.model_fields.items() if name not in skip}
        if not fields:
            return "Its arguments are its package's." if issubclass(cls, PassthroughSpec) else "It takes no arguments."
        rows = ["| key | value | default | role | meaning |", "|---|---|---|---|---|"]
        types, former = _types(cls), {name: key for key, name in former_keys(cls).items()}
        for name, field in fields.items():
            key, inner = field.alias or name, _model_of_section(field.annotation)
            default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
            if field.validate_default:
                default = "auto"  # its spec derives it from other fields
            if cls is Site and field.is_required():
                default = "auto"  # filled in from the environment
            if cls is Sweep:
                default = SWEEP_DEFAULTS.get(name, default)
            kind = types[key]
            if inner is not None:
                kind = kind.replace("mapping", f"[mapping]({self._links[inner]})")
            meaning = _cell(field.description or "") + (
                f" Its earlier name: `{former[name]}`." if name in former else ""
            )
            rows.append(f"| `{key}` | {kind} | {default} | {role_of(cls, name)} | {meaning} |")
        return "\n".join(rows)


def _model_of_section(annotation: Any) -> type[BaseModel] | None:
    """The model in a field that has keys of its own; components have their own pages."""
    inner = model_in(annotation)
    return None if inner is None or issubclass(inner, Spec) or inner is Dimension else inner


def _anchor(title: str) -> str:
    """The address of a heading, as GitHub makes it."""
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def render() -> str:
    """The page of experiment files, as Markdown."""
    tables, blocks = _Tables(), [HEAD, "## The file", _top()]
    for title, cls in (("about", About), ("init", Init), ("trainer", Trainer), ("resources", Resources)):
        blocks += tables.section(f"## {title}", cls, title)
    blocks += tables.section("## sweep", Sweep, "sweep")
    blocks += [SPACE, *tables.section("## report", ReportSettings, "report")]
    blocks += tables.section("## tracking", Tracking, "tracking")
    for registry in (*SLOTS.values(), SEARCHERS, SCHEDULERS):
        blocks += list(_components(registry, tables))
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def render_site() -> str:
    """The page of the site file and of the environment, as Markdown."""
    rows = [f"| `{variable}` | {_cell(text)} |" for variable, text in _site_variables()]
    rows += [
        f"| {', '.join(f'`{name}`' for name in key.split(', '))} | {text} |" for key, text in OTHER_VARIABLES.items()
    ]
    table = "\n".join([VARIABLES.strip(), *rows])
    tables = _Tables({Resources: "experiment.md#resources"})
    _, _, keys, *nested = tables.section("## expflow.site.yaml", Site, "")
    launchers = [CLUSTERS]
    for name in LAUNCHERS.names():
        launchers += tables.section(f"### launcher: {name}", LAUNCHERS.spec(name), "clusters.NAME", skip=("name",))
    blocks = (SITE, keys, SITE_EXAMPLE, *nested, *launchers, table)
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _site_variables() -> Iterator[tuple[str, str]]:
    """Variable -> what it sets, for every key of the site file."""
    for name, field in Site.model_fields.items():
        variable = f"{SITE_PREFIX}{name.upper()}"
        if name == "data":
            yield f"{variable}_<SOURCE>", "The key `data` of one source, as `EXPFLOW_DATA_IMAGENET`."
        elif name == "resources":
            yield f"{variable}_<KEY>", "One default of `resources`, as `EXPFLOW_RESOURCES_CPUS_PER_RANK`."
        elif name == "clusters":
            continue  # a mapping of mappings stands in a file
        elif name == "metrics":
            yield f"{variable}_<KEY>", "One key of `metrics`, as `EXPFLOW_METRICS_PORT`."
        else:
            yield variable, field.description or ""


def _described(cls: type[BaseModel]) -> str:
    return inspect.cleandoc(cls.__doc__ or "").replace("``", "`")


def _top() -> str:
    rows = [("extends", "File or files whose keys this one takes over.")]
    rows += [(name, field.description or "") for name, field in Experiment.model_fields.items() if name != "file"]
    return "\n".join(["| key | meaning |", "|---|---|", *(f"| `{key}` | {_cell(text)} |" for key, text in rows)])


def _components(registry: Registry, tables: _Tables) -> Iterator[str]:
    kind = registry.kind
    yield f"## {kind} components" if kind in SLOTS else f"## sweep.{kind} components"
    for name in [*registry.names(), *(f"{prefix}<name>" for prefix in registry.prefixes())]:
        key = kind if kind in SLOTS else f"sweep.{kind}"
        yield from tables.section(f"### {kind}: {name}", registry.spec(name), key, skip=("name",))
    if registry.presets:
        yield f"### Well-known names of a {kind}"
        yield "Each stands for a component above with these keys; keys that are written beside it win."
        rows = [f"| `{name}` | `{_preset_text(preset)}` |" for name, preset in registry.presets.items()]
        yield "\n".join(["| name | stands for |", "|---|---|", *rows])


def _preset_text(preset: Preset) -> str:
    words = [f"{key}: {value}" for key, value in {"name": preset.component, **preset.arguments}.items()]
    return f"{{{', '.join(words)}}}"


SWEEP_TYPES = {
    "space": "mapping of keys to values",
    "seeds": "count, list of whole numbers, or `{screen: 1, confirm: 5, top: 4}`",
    "budget": "mapping",
    "checkpoints": "mapping",
    "searcher": "component",
    "scheduler": "component",
}
SWEEP_DEFAULTS = {"seeds": "`1`", "searcher": "`grid`"}


def _types(cls: type[BaseModel]) -> dict[str, str]:
    if cls is Sweep:  # read by hand: its model holds what they become
        return {name: SWEEP_TYPES.get(name, "text") for name in Sweep.model_fields} | {
            "metric": "text, or a list of texts",
            "mode": "`max` or `min`, or a list of these",
            "select": "`last` or `best_epoch`",
        }
    properties = model_schema(cls, {})["properties"]
    return {key: _type(schema) for key, schema in properties.items()}


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " \\| ".join(f"`{choice}`" for choice in schema["enum"] if choice is not None)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(branch) for branch in schema["anyOf"] if branch.get("type") != "null"))
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
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f" ({', '.join(bounds)})" if bounds else ""


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
    sys.stdout.write(render_site() if sys.argv[1:] == ["site"] else render())
