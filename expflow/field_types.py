"""Whether plain data that were read have the types that a dataclass's fields state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_Check = Callable[[Any], bool]
_LARGEST = 2**63
"""Whole numbers below it are believed: larger ones fit into no file's size, step or seed, and into no float."""


def check_field_types(cls: type, values: Mapping[str, Any]) -> None:
    """Raise TypeError where a value is not of its field's type; sequences may be lists. Other names are passed over.

    Args:
        cls: A dataclass.
        values: Field to value, as JSON has them.

    Raises:
        TypeError: The message names the field.
    """
    checked_fields(cls, values)


def checked_fields(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of plain data that are fields of a dataclass.

    Args:
        cls: The dataclass.
        data: Field to value, as JSON has them, and whatever a later version added.

    Raises:
        TypeError: One is not of its field's type.
    """
    checks, values = _checks(cls), dict[str, Any]()
    for name, value in data.items():  # one pass: a state has a hundred thousand of them
        check = checks.get(name)
        if check is None:
            continue
        if not check(value):
            raise TypeError(f"{name} is {repr(value)[:40]}, which it cannot be")
        values[name] = value
    return values


@cache
def _checks(cls: type) -> dict[str, _Check]:
    hints = get_type_hints(cls)
    return {entry.name: _check_of(hints[entry.name]) for entry in fields(cls)}


def _check_of(hint: Any) -> _Check:
    """What tells whether a value is of an annotated type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: True
    if origin is Literal:
        return lambda value: isinstance(value, str) and value in args
    if origin in (Union, UnionType):
        checks = [_check_of(arg) for arg in args]
        return lambda value: any(check(value) for check in checks)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_check(_is_number if args[1] is float else _check_of(args[1]))
    if origin is not None and issubclass(origin, Sequence):
        return _sequence_check(_check_of(args[0]))
    if hint is int:
        return lambda value: type(value) is int and -_LARGEST <= value < _LARGEST
    if hint is float:
        return lambda value: _is_number(value) and math.isfinite(value)
    return lambda value: isinstance(value, hint)


def _is_number(value: Any) -> bool:
    """Whether a value is a number; among values by name, as metrics are, it may be infinite or NaN."""
    return type(value) is float or (type(value) is int and -_LARGEST <= value < _LARGEST)


def _mapping_check(of_value: _Check) -> _Check:
    def check(value: Any) -> bool:
        return isinstance(value, dict) and all(map(of_value, value.values()))

    return check


def _sequence_check(of_entry: _Check) -> _Check:
    def check(value: Any) -> bool:
        return isinstance(value, list | tuple) and all(map(of_entry, value))

    return check
