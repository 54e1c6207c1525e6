"""The one merge rule, for ``extends``, ``--set`` and searched values.

A mapping with a different ``name`` replaces what was there; otherwise mappings merge, and anything else replaces.
``null`` deletes. A bare string where a component stands means ``{name: string}``. A component replaces a mapping of
names to components, too: the absent name is a different one.
"""

from __future__ import annotations

from collections.abc import Mapping

from expflow.config.tree import Mark, Node
from expflow.registry import SLOTS

COMPONENTS = frozenset({*((slot,) for slot in SLOTS), ("sweep", "searcher"), ("sweep", "scheduler")})
"""Paths at which a component stands."""

Path = tuple[str, ...]


def as_component(node: Node) -> Node:
    """``{name: text}`` for a bare text; anything else as it is.

    Args:
        node: What stands where a component does.
    """
    if not isinstance(node.value, str):
        return node
    return Node({"name": Node(node.value, node.mark, node.mark)}, node.mark, node.key_mark)


def _replaces(path: Path, base: Node, over: Node) -> bool:
    if path[:2] == ("sweep", "space") and len(path) == 3:
        return True  # a dimension is one value: {uniform: …} does not merge with {loguniform: …}
    return bool(path) and over.name is not None and over.name != base.name


def merge(base: Node | None, over: Node, path: Path = ()) -> Node:
    """Lay one tree over another. Nulls stay, so that they still delete when the result is laid over more.

    Args:
        base: The tree below, if there is one.
        over: The tree that wins.
        path: The key, in parts, at which both stand.
    """
    return _merge(base, over, path, path in COMPONENTS)


def _merge(base: Node | None, over: Node, path: Path, component: bool) -> Node:
    if component:
        base, over = (as_component(base) if base is not None else None), as_component(over)
    if not over.is_mapping:
        return over
    below = base if base is not None and base.is_mapping and not _replaces(path, base, over) else None
    items = dict(below.items) if below is not None else {}
    # Two or more components under the user's names: each child of such a slot is a component itself.
    several = len(path) == 1 and component and below is not None and below.name is None and over.name is None
    for key, child in over.items.items():
        inner, below_child = (*path, key), items.get(key)
        named = several and (child.is_mapping or (below_child is not None and below_child.is_mapping))
        items[key] = _merge(below_child, child, inner, named or inner in COMPONENTS)
    return Node(items, over.mark, over.key_mark)


def split_key(key: str) -> Path:
    """The path of a dotted key. What follows ``sweep.space.`` is one key, as it is in a file.

    Args:
        key: The dotted key.
    """
    if key.startswith("sweep.space."):
        return ("sweep", "space", key.removeprefix("sweep.space."))
    return tuple(key.split("."))


def tree_with(path: Path, value: Node) -> Node:
    """A tree that holds one value alone.

    Args:
        path: Where the value stands in it.
        value: The value.
    """
    for key in reversed(path):
        value = Node({key: Node(value.value, value.mark, value.key_mark or value.mark)}, value.mark, value.key_mark)
    return value


def tree_of_values(values: Mapping[str, Node], mark: Mark) -> Node:
    """One tree of all dotted values of one config: whole mappings first, then the keys below them, ``name`` first.

    Args:
        values: Dotted key to its value.
        mark: The place of the root.
    """
    root: dict[str, Node] = {}
    for key in sorted(values, key=lambda dotted: (dotted.count("."), not dotted.endswith(".name"))):
        _put(root, split_key(key), values[key], ())
    return Node(root, mark)


def _put(items: dict[str, Node], path: Path, value: Node, above: Path) -> None:
    key, *rest = path
    here = (*above, key)
    component = here in COMPONENTS
    if not rest:
        items[key] = as_component(value) if component else value
        return
    child = items.get(key)
    if child is not None and component:
        child = as_component(child)
    inner = dict(child.items) if child is not None else {}
    _put(inner, tuple(rest), value, here)
    items[key] = Node(inner, value.mark, value.mark)
