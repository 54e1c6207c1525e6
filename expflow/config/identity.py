"""What makes two recipes the same: ids, and names that people read (design section 2)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from expflow.config.initial import Init
from expflow.config.schema import SCHEMA_NUMBER, Recipe, Trainer
from expflow.config.spec import Foreign, Open, Spec, role_of
from expflow.config.yaml_text import yaml_text
from expflow.registry import SLOTS

ID_LENGTH = 12
MAX_NAME = 120
"""Most characters of a folder's readable part: file systems take 255 bytes, and the id is added."""


def canonical(value: Any) -> str:
    """One text per value: keys sorted, no spaces, lists and tuples alike. Raises TypeError for other objects."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:ID_LENGTH]


def _plain(value: Any, *, full: bool) -> Any:
    """A field's value as plain data; inside of models only what ``full`` asks for."""
    if isinstance(value, BaseModel):
        return _fields(value, full=full)
    if isinstance(value, Mapping):
        return {str(key): _plain(each, full=full) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, full=full) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(each, full=full) for each in value), key=canonical)
    return str(value) if isinstance(value, PurePath) else value


def _fields(model: BaseModel, *, full: bool) -> dict[str, Any]:
    """Fields as plain data: all of them with ``full``, else the identity fields that differ from their default."""
    fields: dict[str, Any] = {}
    derived = model.derived(dict(model)) if isinstance(model, Spec) else {}
    for key, field in type(model).model_fields.items():
        value = getattr(model, key)
        if full:
            if value is not None:
                fields[field.alias or key] = _plain(value, full=True)
        elif role_of(type(model), key) == "identity" or key == "name":
            shown = _plain(value, full=False)
            default = derived.get(key, field.get_default(call_default_factory=True))
            if key == "name" or field.is_required() or shown != _plain(default, full=False):
                fields[field.alias or key] = shown
    if isinstance(model, Open):
        fields |= _plain(model.arguments if full else model.unusual, full=full)
    return fields


def identity_tree(recipe: Recipe) -> dict[str, Any]:
    """The recipe's identity fields that differ from their default, as plain data."""
    return _fields(recipe, full=False)


def recorded_tree(recipe: Recipe) -> dict[str, Any]:
    """:func:`identity_tree` for the record: with all written arguments of the user's own components.

    Their defaults stand in the user's code and may change there; expflow's own can be filled in again.
    """
    tree = identity_tree(recipe)
    for slot in SLOTS:
        value = getattr(recipe, slot)
        if isinstance(value, Foreign):
            tree[slot] = dump(value)
        elif isinstance(value, Mapping):
            tree[slot] = {**tree[slot], **{key: dump(each) for key, each in value.items() if isinstance(each, Foreign)}}
    return tree


def dump(recipe: BaseModel) -> dict[str, Any]:
    """A recipe (or a part of one) with every field, as one would write it in YAML; what is null is left out."""
    return _fields(recipe, full=True)


def recipe_from_identity(tree: Mapping[str, Any], budget: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The full recipe as plain data, every default filled in, of which ``recorded_tree`` gave ``tree``.

    ``budget`` holds the budget fields by dotted key. The user's own code is not imported: its arguments stay.
    """
    recipe: dict[str, Any] = {key: _filled(key, part) for key, part in tree.items() if key in SLOTS}
    trainer = dict(tree.get("trainer", {}))
    trainer |= {
        key.removeprefix("trainer."): value for key, value in (budget or {}).items() if key.startswith("trainer.")
    }
    if "init" in tree:
        recipe["init"] = dump(Init.model_validate(tree["init"]))
    return {**recipe, "trainer": dump(Trainer.model_validate(trainer))}


def _filled(slot: str, part: Mapping[str, Any]) -> dict[str, Any]:
    name = part.get("name")
    if name is None:
        return {each: _filled(slot, inner) for each, inner in part.items()}
    if name not in SLOTS[slot]:
        return dict(part)
    spec = SLOTS[slot].spec(name)
    if issubclass(spec, Open):  # its arguments are not ours to check, and who only reads results needs no package
        return dump(spec.model_construct(**part))
    return dump(spec.model_validate(dict(part)))


def dump_yaml(tree: Mapping[str, Any] | BaseModel) -> str:
    """Plain data, or a recipe, as YAML text that reads back to the same values."""
    return yaml_text(dump(tree) if isinstance(tree, BaseModel) else tree)


def config_id(recipe: Recipe) -> str:
    """Hash of what is compared. New fields with a default, key order, budget and execution fields do not change it."""
    return _digest({"schema": SCHEMA_NUMBER, "recipe": identity_tree(recipe)})


def trial_id(config: str, seed: int, data_key: str, weights: str = "") -> str:
    """Hash of a config, a seed, the data and the id of the weights that it starts from ("" for fresh ones)."""
    return _digest([config, seed, data_key, weights])


def short_keys(keys: Mapping[str, Any]) -> dict[str, str]:
    """Searched key -> its last part, or as many as tell it from the others. A ``.name`` reads as its slot."""
    texts = {key: key.removesuffix(".name") for key in keys}
    short = {}
    for key, text in texts.items():
        parts = text.split(".")
        for count in range(1, len(parts) + 1):
            tail = parts[-count:]
            if sum(other.split(".")[-count:] == tail for other in texts.values()) == 1:
                break
        short[key] = ".".join(parts[-count:])
    return short


def value_words(value: Any) -> str:
    """A searched value in few characters: ``0.0001``, ``pad``, ``resnet(depth=50)``."""
    if isinstance(value, Mapping):
        rest = ",".join(f"{key}={value_words(each)}" for key, each in value.items() if key != "name")
        name = str(value.get("name", ""))
        return f"{name}({rest})" if rest else name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ",".join(value_words(each) for each in value)
    return "null" if value is None else str(value)


def readable(values: Mapping[str, Any]) -> str:
    """A config's searched values on one line: ``depth=56 shortcut=pad``."""
    short = short_keys(values)
    return " ".join(f"{short[key]}={value_words(value)}" for key, value in values.items())


def safe_name(text: str) -> str:
    """``text`` as one file name: characters that some file system or shell minds are percent-encoded."""
    encoded = quote(text, safe="+=,.-_")
    if encoded.strip(".") == "":
        encoded = encoded.replace(".", "%2E")
    if len(encoded) <= MAX_NAME:
        return encoded
    return f"{encoded[: MAX_NAME - ID_LENGTH - 1]}-{_digest(text)}"


def folder_name(values: Mapping[str, Any], seed: int, trial: str) -> str:
    """A trial's folder: ``depth=56_shortcut=pad_s0-3fa9c2d1e0b4``."""
    words = f"{readable(values)} s{seed}" if values else f"s{seed}"
    return f"{re.sub(r'[^A-Za-z0-9+=,._-]+', '_', words)[:MAX_NAME]}-{trial}"
