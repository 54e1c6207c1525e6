"""What pydantic finds wrong, in plain words and at the place in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from expflow.config.spec import former_keys
from expflow.config.tree import Node, describe_value, plain, problem_at
from expflow.errors import MAX_PROBLEMS, Problem, nearest

M = TypeVar("M", bound=BaseModel)

_MAX_DETAILS = 10 * MAX_PROBLEMS
"""What pydantic says is made into words up to here; a union says it once for each of its branches."""

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
    "path": "a path",
    "none": "null",
}
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "enum": "{expected}",
}


def sentence(text: str) -> str:
    """A field's description as the end of a message: no full stop, lower case at the beginning.

    Args:
        text: The description.
    """
    text = text.rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The message about a key that does not exist.

    Args:
        key: The key as written.
        known: The keys that there are.
    """
    names = sorted(known)
    close = nearest(key, names)
    return f"unknown key; nearest valid key: {close}" if close else f"unknown key; expected one of: {', '.join(names)}"


def check_model(
    cls: type[M], node: Node, path: Sequence[str], problems: list[Problem], ready: Mapping[str, Any] | None = None
) -> M | None:
    """Fill a model from what a file says.

    Args:
        cls: The model.
        node: The mapping as written.
        path: The node's own key, in parts.
        problems: What is wrong is added here.
        ready: Values that are objects already, by field.

    Returns:
        The model; None where something is wrong.
    """
    if not node.is_mapping:
        problems.append(
            problem_at(node.mark, ".".join(path), f"expected a mapping, found {describe_value(node.value)}")
        )
        return None
    node = _with_present_keys(cls, node, path, problems)
    known = field_keys(cls)
    data = {key: plain(child) for key, child in node.items.items() if child.value is not None or key not in known}
    try:
        if ready is None:
            return cls.model_validate_json(json.dumps(data), strict=True)  # strict, but a JSON list may fill a tuple
        return cls.model_validate({**data, **ready}, strict=True)
    except ValidationError as error:
        problems.extend(_problems(cls, error, node, path))
        return None


def _with_present_keys(cls: type[BaseModel], node: Node, path: Sequence[str], problems: list[Problem]) -> Node:
    """The mapping with keys that were renamed under their present names, each where it is written."""
    former = former_keys(cls)
    items: dict[str, Node] = {}
    for key, child in node.items.items():
        name = former.get(key, key)
        if name in items and child.value is not None and items[name].value is not None:
            message = f"{name} and {next(k for k, n in former.items() if n == name)} are one key under two names"
            problems.append(problem_at(child.key_mark or child.mark, ".".join((*path, key)), f"{message}; say {name}"))
        elif name not in items or child.value is not None:
            items[name] = child
    return Node(items, node.mark, node.key_mark) if former else node


def field_keys(cls: type[BaseModel]) -> dict[str, str]:
    """Key in a file to field of the model.

    Args:
        cls: The model.
    """
    return {field.alias or name: name for name, field in cls.model_fields.items()}


def _problems(cls: type[BaseModel], error: ValidationError, node: Node, path: Sequence[str]) -> list[Problem]:
    """One problem for each place; a union's branches, which all fail at one place, become one sentence."""
    places: dict[tuple[str, ...], list[tuple[Node, str, bool]]] = {}
    for details in islice(error.errors(include_url=False), _MAX_DETAILS):
        where, value = _walk(node, details)
        message, joins = _message(cls, details, where)
        places.setdefault((*path, *where), []).append((value, message, joins))
    result = []
    for key, group in places.items():
        value, message, joins = group[0]
        if len(group) > 1 and joins:
            phrases = dict.fromkeys(text for _, text, same in group if same)
            message = " or ".join(phrases)
        if joins:
            message = f"expected {message}, found {describe_value(plain(value))}" + _close(value.value, message)
        mark = value.key_mark if message.startswith("unknown key") and value.key_mark else value.mark
        result.append(problem_at(mark, ".".join(key), message))
    return result


def _walk(node: Node, error: Mapping[str, Any]) -> tuple[tuple[str, ...], Node]:
    """The key path and node that an error is about: as far as its location exists in the file, and the missing key."""
    where: list[str] = []
    for part in error["loc"]:
        if node.is_mapping and part in node.items:
            node = node.items[str(part)]
        elif node.is_list and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            break  # a union's branch, or a missing key
        where.append(str(part))
    if error["type"] == "missing":
        where.append(str(error["loc"][-1]))
    field = getattr(error.get("ctx", {}).get("error"), "field", None) or error.get("ctx", {}).get("field")
    if field:
        where.extend(str(field).split("."))
        for part in str(field).split("."):
            node = node.items.get(part, node)
    return tuple(where), node


def _message(cls: type[BaseModel], error: Mapping[str, Any], where: Sequence[str]) -> tuple[str, bool]:
    """The message, and whether it is only what was expected there (so that a union's branches can be joined)."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        field = _model_at(cls, where[:-1]).model_fields.get(where[-1])
        meaning = f"; expected {sentence(field.description)}" if field is not None and field.description else ""
        return f"missing{meaning}", False
    if kind == "extra_forbidden":
        return unknown_key(where[-1], field_keys(_model_at(cls, where[:-1]))), False
    if kind in _BOUNDS:
        bounds = {key: f"{limit:g}" if isinstance(limit, float) else limit for key, limit in context.items()}
        return _BOUNDS[kind].format(**bounds).replace("'", ""), True
    family = kind.split("_")[0]
    if family in _EXPECTED and kind.endswith(("_type", "_parsing", "_from_float", "_required")):
        return _EXPECTED[family], True
    if "error" in context:
        return str(context["error"]), False
    return error["msg"], False


def _close(value: Any, expected: str) -> str:
    if not isinstance(value, str):
        return ""
    close = nearest(value, re.findall(r"[\w./+-]+", expected))
    return f"; nearest: {close}" if close and " or " in expected else ""


def _model_at(cls: type[BaseModel], where: Sequence[str]) -> type[BaseModel]:
    """The model that stands at ``where`` below ``cls``; list positions do not count."""
    for part in where:
        name = field_keys(cls).get(part)
        if name is not None:
            cls = model_in(cls.model_fields[name].annotation) or cls
    return cls


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model that an annotation mentions, such as the items of a list; None where there is none.

    Args:
        annotation: A field's annotation.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts: Collection[Any] = get_args(annotation)
    return next((model for part in parts if (model := model_in(part)) is not None), None)
