"""What makes two recipes the same: ids, and names that people read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from expflow.config.child_space import with_child_texts
from expflow.config.initial_weights import Init
from expflow.config.schema import SCHEMA_VERSION, Recipe, Trainer
from expflow.config.spec import PassthroughSpec, Spec, UserComponent, former_keys, role_of, with_present_keys
from expflow.config.yaml_writer import yaml_text
from expflow.redaction import redacted_tree
from expflow.registry import SLOTS

ID_LENGTH = 12
MAX_NAME = 120
"""Most characters of a folder's readable part: file systems take 255 bytes, and the id is added."""


def canonical_json(value: Any) -> str:
    """One text per value: keys sorted, no spaces, lists and tuples alike.

    Args:
        value: Plain data.

    Raises:
        TypeError: It holds other objects.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


_PLAIN_TYPES = (str, int, float, bool, type(None))
"""What is plain data as it is."""


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:ID_LENGTH]


def _plain(value: Any, *, full: bool) -> Any:
    """A field's value as plain data; inside of models only what ``full`` asks for."""
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, BaseModel):
        return _fields(value, full=full)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, full=full) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, full=full) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, full=full) for item in value), key=canonical_json)
    return str(value) if isinstance(value, PurePath) else value


def _fields(model: BaseModel, *, full: bool) -> dict[str, Any]:
    """Fields as plain data: all of them with ``full``, else the identity fields that differ from their default."""
    fields = _all_fields(model) if full else _hashed_fields(model)
    if isinstance(model, PassthroughSpec):
        fields |= _plain(model.arguments if full else model.non_default_arguments, full=full)
    return fields


def _all_fields(model: BaseModel) -> dict[str, Any]:
    values = ((field.alias or key, getattr(model, key)) for key, field in type(model).model_fields.items())
    return {name: _plain(value, full=True) for name, value in values if value is not None}


def _hashed_fields(model: BaseModel) -> dict[str, Any]:
    derived_defaults = model.derived_defaults(dict(model)) if isinstance(model, Spec) else {}
    fields: dict[str, Any] = {}
    for field in _hashed_fields_of(type(model)):
        shown = _plain(getattr(model, field.key), full=False)
        default = field.default
        if field.key in derived_defaults:
            default = _plain(derived_defaults[field.key], full=False)
        if field.always or shown != default:
            fields[field.name] = shown
    return fields


@dataclass(frozen=True)
class _HashedField:
    """An identity field of a model.

    Attributes:
        key: The field.
        name: What it is called where it is hashed.
        always: Whether it stands there also where it has its default.
        default: Its default as plain data, where that does not depend on other fields.
    """

    key: str
    name: str
    always: bool
    default: Any


@cache
def _hashed_fields_of(model: type[BaseModel]) -> tuple[_HashedField, ...]:
    """What :func:`_hashed_fields` goes by; kept, since a sweep hashes thousands of configs."""
    former = {name: key for key, name in former_keys(model).items()}
    return tuple(
        _HashedField(
            key,
            former.get(key) or field.alias or key,
            key == "name" or field.is_required(),
            _plain(field.get_default(call_default_factory=True), full=False),
        )
        for key, field in model.model_fields.items()
        if role_of(model, key) == "identity" or key == "name"
    )


def identity_tree(recipe: Recipe) -> dict[str, Any]:
    """The recipe's identity fields that differ from their default, as plain data.

    Args:
        recipe: The recipe.
    """
    return _fields(recipe, full=False)


def recorded_tree(recipe: Recipe) -> dict[str, Any]:
    """:func:`identity_tree` for the record: with all written arguments of the user's own components, without secrets.

    Their defaults stand in the user's code and may change there; expflow's own can be filled in again.

    Args:
        recipe: The recipe.
    """
    tree = identity_tree(recipe)
    for slot in SLOTS:
        value = getattr(recipe, slot)
        if isinstance(value, UserComponent):
            tree[slot] = dump(value)
        elif isinstance(value, Mapping):
            tree[slot] = {
                **tree[slot],
                **{key: dump(component) for key, component in value.items() if isinstance(component, UserComponent)},
            }
    if recipe.trainer.callbacks:
        tree["trainer"] = {**tree["trainer"], "callbacks": [dump(callback) for callback in recipe.trainer.callbacks]}
    clean: dict[str, Any] = redacted_tree(tree)
    return clean


def dump(recipe: BaseModel) -> dict[str, Any]:
    """A recipe with every field, as one would write it in YAML; what is null is left out.

    Args:
        recipe: The recipe, or a part of one.
    """
    return _fields(recipe, full=True)


def recipe_from_identity(tree: Mapping[str, Any], budget: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The full recipe, every default filled in, from its record. The user's own code is not imported.

    Args:
        tree: What :func:`recorded_tree` gave.
        budget: The recipe's budget fields, by dotted key.

    Returns:
        The recipe as plain data, as :func:`dump` gives it; arguments of the user's own components as recorded.
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
        return {user_name: _filled(slot, inner) for user_name, inner in part.items()}
    if name not in SLOTS[slot]:
        return dict(part)
    spec = SLOTS[slot].spec(name)
    if issubclass(
        spec, PassthroughSpec
    ):  # its arguments are not ours to check, and who only reads results needs no package
        return dump(spec.model_construct(**with_present_keys(spec, part)))
    return dump(spec.model_validate(with_present_keys(spec, part)))


def dump_yaml(tree: Mapping[str, Any] | BaseModel) -> str:
    """YAML text that reads back to the same values.

    Args:
        tree: Plain data, or a recipe.
    """
    return yaml_text(dump(tree) if isinstance(tree, BaseModel) else tree)


def config_id(recipe: Recipe) -> str:
    """Hash of what is compared. New fields with a default, key order, budget and execution fields do not change it.

    Args:
        recipe: The config.
    """
    return _digest({"schema": SCHEMA_VERSION, "recipe": identity_tree(recipe)})


def trial_id(config: str, seed: int, data_key: str, weights: str = "") -> str:
    """Hash of what tells a trial from others.

    Args:
        config: The config's id.
        seed: The trial's seed.
        data_key: Which data it is trained on.
        weights: Id of the weights that it starts from; "" for fresh ones.
    """
    return _digest([config, seed, data_key, weights])


def short_keys(keys: Mapping[str, Any]) -> dict[str, str]:
    """Short forms of searched keys: the last part, or as many as tell it from the others.

    Args:
        keys: The searched keys (values are not looked at). A ``.name`` reads as its slot.

    Returns:
        Key to its short form.
    """
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


def value_text(value: Any) -> str:
    """A searched value in few characters: ``0.0001``, ``pad``, ``resnet(depth=50)``.

    Args:
        value: Plain data.
    """
    if isinstance(value, Mapping):
        rest = ",".join(f"{key}={value_text(item)}" for key, item in value.items() if key != "name")
        name = str(value.get("name", ""))
        return f"{name}({rest})" if rest else name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ",".join(value_text(item) for item in value)
    return "null" if value is None else str(value)


def config_text(values: Mapping[str, Any]) -> str:
    """A config's searched values on one line: ``depth=56 shortcut=pad``.

    Args:
        values: Searched key to value.
    """
    values = with_child_texts(values)
    short = short_keys(values)
    return " ".join(f"{short[key]}={value_text(value)}" for key, value in values.items())


def safe_name(text: str) -> str:
    """A text as one file name: characters that some file system or shell minds are percent-encoded.

    Args:
        text: Any text; what is too long is cut, and ends in a hash of all of it.
    """
    encoded = quote(text, safe="+=,.-_", errors="surrogateescape")
    if encoded.strip(".") == "":
        encoded = encoded.replace(".", "%2E")
    if len(encoded) <= MAX_NAME:
        return encoded
    return f"{encoded[: MAX_NAME - ID_LENGTH - 1]}-{_digest(text)}"


def folder_name(values: Mapping[str, Any], seed: int, trial: str) -> str:
    """The name of a trial's folder: ``depth=56_shortcut=pad_s0-3fa9c2d1e0b4``.

    Args:
        values: The config's searched values.
        seed: The trial's seed.
        trial: The trial's id.
    """
    words = f"{config_text(values)} s{seed}" if values else f"s{seed}"
    return f"{re.sub(r'[^A-Za-z0-9+=,._-]+', '_', words)[:MAX_NAME]}-{trial}"
