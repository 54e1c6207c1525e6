"""A YAML file as a tree of plain values, each of which knows where it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from expflow.errors import Problem


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file.

    Attributes:
        file: The file's name in messages, or what the value came from where that is no file (``--set a=1``).
        line: From 1; 0 where the value came from no file.
        column: From 1.
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Node:
    """One value.

    Attributes:
        value: A scalar, a tuple of nodes or a dict of keys to nodes.
        mark: Where the value begins.
        key_mark: Where its key begins; None for the root and in lists.
    """

    value: Any
    mark: Mark
    key_mark: Mark | None = None

    @property
    def items(self) -> Mapping[str, Node]:
        """The children of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def is_mapping(self) -> bool:
        """Whether the value is a mapping."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return isinstance(self.value, tuple)

    @property
    def name(self) -> str | None:
        """The mapping's own ``name``, where it has one."""
        named = self.items.get("name")
        return named.value if named is not None and isinstance(named.value, str) else None

    def child(self, key: str) -> Node | None:
        """The child under a key; None where there is none or it is null, which means the same.

        Args:
            key: A key of a mapping.
        """
        child = self.items.get(key)
        return None if child is None or child.value is None else child


def plain(node: Node) -> Any:
    """The value without its places; null values of mappings are left out, as they say that there is no value.

    Args:
        node: The value with its places.
    """
    if node.is_mapping:
        return {key: plain(child) for key, child in node.items.items() if child.value is not None}
    if node.is_list:
        return [plain(child) for child in node.value]
    return node.value


def from_plain(value: Any, mark: Mark) -> Node:
    """A tree of plain data.

    Args:
        value: The data.
        mark: The place of all of it.
    """
    if isinstance(value, Mapping):
        return Node({str(key): from_plain(child, mark) for key, child in value.items()}, mark, mark)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return Node(tuple(from_plain(child, mark) for child in value), mark, mark)
    return Node(value, mark, mark)


def relocated(node: Node, mark: Mark) -> Node:
    """The same tree with one place for all of its values.

    Args:
        node: The tree.
        mark: The place.
    """
    if node.is_mapping:
        return Node({key: relocated(child, mark) for key, child in node.items.items()}, mark, mark)
    if node.is_list:
        return Node(tuple(relocated(child, mark) for child in node.value), mark, mark)
    return replace(node, mark=mark, key_mark=mark)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it.

    Args:
        node: Where to begin.
    """
    yield node
    for child in node.items.values() if node.is_mapping else node.value if node.is_list else ():
        yield from walk(child)


def node_at(node: Node, path: Sequence[str]) -> Node | None:
    """The node that a path leads to; None where it leads nowhere.

    Args:
        node: Where the path begins.
        path: Keys of mappings.
    """
    for key in path:
        child = node.child(key)
        if child is None:
            return None
        node = child
    return node


def problem_at(mark: Mark, key: str, message: str) -> Problem:
    """A :class:`~expflow.errors.Problem` at a place.

    Args:
        mark: The place.
        key: The dotted key that it is about; "" where it is about none.
        message: What is wrong, and what was expected.
    """
    return Problem(mark.file, mark.line, mark.column, key, message)


def describe_value(value: Any) -> str:
    """A value as messages name it.

    Args:
        value: Plain data.
    """
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
