"""Plain data as YAML text that reads back to the same values.

Small and quick: a sweep writes one such file for each trial, and a general YAML writer takes 10 ms for one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*(:[A-Za-z0-9_./+-]+)*")
_OTHERS = frozenset({"null", "true", "false", "yes", "no", "on", "off"})
"""Words that some reader of YAML takes for something else than text."""


def yaml_text(tree: Mapping[str, Any]) -> str:
    """Plain data in block style, keys in their order.

    Args:
        tree: The data.

    Raises:
        TypeError: It holds something else than plain data.
    """
    return "".join(_block(tree, "")) or "{}\n"


def _block(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_text(str(key))}:\n"
            yield from _block(value, indent + "  ")
        elif isinstance(value, list | tuple) and value:
            yield f"{indent}{_text(str(key))}:\n"
            yield from (f"{indent}- {_inline(item)}\n" for item in value)
        else:
            yield f"{indent}{_text(str(key))}: {_inline(value)}\n"


def _inline(value: Any) -> str:
    """A value on one line. Inside of brackets all text is quoted, so that none can be taken for their syntax."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(key))}: {_inside(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inside, value)) + "]"
    return _text(value) if isinstance(value, str) else _number(value)


def _inside(value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else _inline(value)


def _text(value: str) -> str:
    return value if _PLAIN.fullmatch(value) and value.lower() not in _OTHERS else _quoted(value)


def _quoted(value: str) -> str:
    """In double quotes; what does not print is escaped, since YAML would fold or refuse it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _number(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return json.dumps(value)
