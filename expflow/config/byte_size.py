"""Sizes such as 50 GB, as people write them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def in_bytes(value: Any) -> Any:
    """Read a text such as ``50 GB`` as a number of bytes.

    Args:
        value: The text; anything else is returned as it is.

    Raises:
        ValueError: It is another text.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", value)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"expected a size such as 50 GB, found {value!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}

ByteSize = Annotated[int, BeforeValidator(in_bytes), Field(ge=0), WithJsonSchema(_SCHEMA)]
"""A number of bytes, which a file may write as ``50 GB``."""
