"""Spaces of children as dimensions: what ``{layers: …}`` and ``{cell: …}`` under ``sweep.space`` stand for.

Each choice of a child (a layer's filter height, a node's operation) is a dimension of its own, so every searcher can
search children, also beside other keys of the recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from expflow.config.schema import Dimension
from expflow.errors import nearest

CHILD_FORMS = ("layers", "cell")
"""Forms of a searched key that stand for several dimensions."""

DARTS = (
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Operations of DARTS, section 3.1.1, without ``none``, which no derived cell has."""

NASNET = (
    "skip_connect",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
"""Operations of NASNet, section 3."""

OPERATION_SETS: dict[str, tuple[str, ...]] = {"darts": DARTS, "nasnet": NASNET}
OPERATIONS: tuple[str, ...] = tuple(dict.fromkeys((*NASNET, *DARTS)))
"""All operations of cells."""

OUTPUT_RULES = ("unused", "all", "last")
"""Which nodes of a cell are concatenated: those that no other one reads (NASNet), all (DARTS), or the last alone."""

_LAYER_KEYS = ("count", "height", "width", "stride", "filters", "skips")
_CELL_KEYS = ("nodes", "operations", "outputs")


class ChildSpaceError(ValueError):
    """Raised for a space of children that is written wrongly.

    Args:
        key: The key of the form that is wrong.
        message: What is wrong with it.
    """

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


def child_dimensions(key: str, form: str, written: Any) -> tuple[Dimension, ...]:
    """The dimensions of a space of children.

    Args:
        key: The searched key, ``model.layers`` for example.
        form: One of :data:`CHILD_FORMS`.
        written: What stands behind the form, as plain data.

    Raises:
        ChildSpaceError: It is written wrongly.
    """
    if not isinstance(written, Mapping):
        raise ChildSpaceError("", f"expected a mapping of {', '.join(_LAYER_KEYS if form == 'layers' else _CELL_KEYS)}")
    known = _LAYER_KEYS if form == "layers" else _CELL_KEYS
    for part in written:
        if part not in known:
            close = nearest(str(part), known)
            hint = f"nearest valid key: {close}" if close else f"expected one of: {', '.join(known)}"
            raise ChildSpaceError(str(part), f"unknown key; {hint}")
    return tuple(_layer_dimensions(key, written) if form == "layers" else _cell_dimensions(key, written))


def _layer_dimensions(key: str, written: Mapping[str, Any]) -> Iterator[Dimension]:
    counts = _numbers(written, "count", 64)
    several = len(counts) > 1
    if several:
        yield Dimension(key=f"{key}.count", kind="choice", values=counts)
    sides = {part: _numbers(written, part, 99) for part in ("height", "width")}
    sides |= {"stride": _numbers(written, "stride", 8, (1,)), "filters": _numbers(written, "filters", 100_000)}
    skips = written.get("skips", False)
    if not isinstance(skips, bool):
        raise ChildSpaceError("skips", f"expected true or false, found {skips!r}")
    for number in range(1, max(counts) + 1):
        deeper = tuple(count for count in counts if count >= number)
        when = {f"{key}.count": deeper} if several and len(deeper) < len(counts) else {}
        for part, values in sides.items():
            yield Dimension(key=f"{key}.{number}.{part}", kind="choice", values=values, when=when)
        for earlier in range(1, number - 1) if skips else ():
            name = f"{key}.{number}.skip{earlier}"
            yield Dimension(key=name, kind="choice", values=(False, True), when=when)


def _cell_dimensions(key: str, written: Mapping[str, Any]) -> Iterator[Dimension]:
    nodes = written.get("nodes")
    if not isinstance(nodes, int) or isinstance(nodes, bool) or not 1 <= nodes <= 12:
        raise ChildSpaceError("nodes", f"expected a number of nodes from 1 to 12, found {nodes!r}")
    rule = written.get("outputs", "unused")
    if rule not in OUTPUT_RULES:
        raise ChildSpaceError("outputs", f"expected one of {', '.join(OUTPUT_RULES)}, found {rule!r}")
    operations = _operations(written.get("operations", "darts"))
    yield Dimension(key=f"{key}.outputs", kind="choice", values=(rule,))
    for number in range(2, nodes + 2):
        for edge in (1, 2):
            yield Dimension(key=f"{key}.{number}.in{edge}", kind="choice", values=tuple(range(number)))
            yield Dimension(key=f"{key}.{number}.op{edge}", kind="choice", values=operations)


def _operations(written: Any) -> tuple[str, ...]:
    if isinstance(written, str) and written in OPERATION_SETS:
        return OPERATION_SETS[written]
    if not isinstance(written, list | tuple) or not written:
        sets = ", ".join(OPERATION_SETS)
        raise ChildSpaceError("operations", f"expected one of {sets}, or a list of operations, found {written!r}")
    for name in written:
        if name not in OPERATIONS:
            close = nearest(str(name), OPERATIONS)
            hint = f"nearest: {close}" if close else f"expected some of {', '.join(OPERATIONS)}"
            raise ChildSpaceError("operations", f"there is no operation {name!r}; {hint}")
    return tuple(dict.fromkeys(written))


def _numbers(written: Mapping[str, Any], part: str, most: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """A number or a list of numbers, each once."""
    given = written.get(part, default)
    numbers = given if isinstance(given, list | tuple) else (given,)
    if not numbers or any(not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= most for n in numbers):
        raise ChildSpaceError(part, f"expected whole numbers from 1 to {most}, found {given if given else 'none'}")
    return tuple(dict.fromkeys(numbers))


def collapsed_key(key: str) -> str | None:
    """The key that a choice of a child belongs to, ``model.layers`` for ``model.layers.3.height``; None for others.

    Args:
        key: A searched key.
    """
    parts = key.split(".")
    for place, part in enumerate(parts[1:], start=1):
        rest = parts[place + 1 :]
        if (
            part in ("layers", "normal", "reduction")
            and rest
            and (rest[0].isdigit() or rest[0] in ("count", "outputs"))
        ):
            return ".".join(parts[: place + 1])
    return None


def with_child_texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """A config's values with the choices of each child in one text, as a reader knows it; other values as they are.

    Args:
        values: Searched key -> value.
    """
    shown: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        whole = collapsed_key(key)
        shown[whole or key] = value
        if whole is not None:
            parts.setdefault(whole, {})[key.removeprefix(f"{whole}.")] = value
    return shown | {key: _child_text(choices) for key, choices in parts.items()}


def _child_text(choices: Mapping[str, Any]) -> str:
    """``3x5 s2 n24 +1, …`` of a layer child's choices, ``skip_connect(0) + conv_1x1(1), …`` of a cell's."""
    numbered: dict[int, dict[str, Any]] = {}
    for key, value in choices.items():
        number, _, part = key.partition(".")
        if part:
            numbered.setdefault(int(number), {})[part] = value
    texts = (_cell_text(one) if "op1" in one else _layer_text(one) for _, one in sorted(numbered.items()))
    return ", ".join(texts)


def _layer_text(layer: Mapping[str, Any]) -> str:
    skips = "".join(f" +{part[4:]}" for part, value in layer.items() if part.startswith("skip") and value)
    stride = f" s{layer['stride']}" if "stride" in layer else ""
    sides = f"{layer.get('height', '?')}x{layer.get('width', '?')}"
    return f"{sides}{stride} n{layer.get('filters', '?')}{skips}"


def _cell_text(node: Mapping[str, Any]) -> str:
    return " + ".join(f"{node.get(f'op{edge}', '?')}({node.get(f'in{edge}', '?')})" for edge in (1, 2))
