"""Dataclasses as plain data that the json module writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def plain_data(value: Any) -> Any:
    """A value as plain data: dataclasses as mappings, tuples as lists, numbers that are not finite as None.

    Args:
        value: A dataclass, a mapping, a sequence, or what JSON knows.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain_data(member) for key, member in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain_data(member) for member in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
