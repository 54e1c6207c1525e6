"""``extends``: the files that a file stands on, each read once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from expflow.config.merge import merge
from expflow.config.tree import Node, describe_value, plain, problem_at, walk
from expflow.config.yaml_reader import MAX_VALUES, read
from expflow.errors import ExperimentInvalid

OWN_KEYS = ("about", "sweep", "report", "name")
"""Keys that a file does not hand on to those that extend it."""

MAX_EXTENDS = 100
"""Entries of ``extends`` in an experiment and all that it stands on."""


@dataclass
class Inheritance:
    """The files that one experiment stands on.

    What it does is bounded: each file is read once however often it is named, and neither the entries of ``extends``
    nor the values that are merged are more than a person writes.

    Attributes:
        trees: File -> its tree over those that it extends.
        entries: Entries of ``extends`` so far.
        values: Keys and values that these have handed on so far.
    """

    trees: dict[Path, Node] = field(default_factory=dict)
    entries: int = 0
    values: int = 0

    def extended(self, path: Path, root: Node, chain: tuple[Path, ...] = ()) -> Node:
        """A file's tree over those that it extends, each of which may extend others.

        Args:
            path: The file.
            root: What it holds.
            chain: The files that have led to it, the first one first.

        Raises:
            ExperimentInvalid: A file cannot be read, files extend each other in a circle, or there are too many.
        """
        chain = (*chain, path.resolve())
        own = Node({key: child for key, child in root.items.items() if key != "extends"}, root.mark)
        base: Node | None = None
        for item in _entries(root.child("extends")):
            inherited = self._inherited(path, item, chain)
            handed_on = {key: child for key, child in inherited.items.items() if key not in OWN_KEYS}
            base = merge(base, Node(handed_on, inherited.mark))
        return merge(base, own)

    def _inherited(self, path: Path, item: Node, chain: tuple[Path, ...]) -> Node:
        """The tree of the file that an entry of ``extends`` names."""
        if not isinstance(item.value, str):
            message = f"expected a path or a list of paths, found {describe_value(plain(item))}"
            raise ExperimentInvalid([problem_at(item.mark, "extends", message)])
        other = path.parent / item.value
        key = other.resolve()
        if key in chain:
            circle = " -> ".join(file.name for file in (*chain, other))
            raise ExperimentInvalid(
                [problem_at(item.mark, "extends", f"files extend each other in a circle: {circle}")]
            )
        self.entries += 1
        if self.entries > MAX_EXTENDS:
            raise ExperimentInvalid([problem_at(item.mark, "extends", f"more than {MAX_EXTENDS} entries in all files")])
        if key not in self.trees:
            self.trees[key] = self.extended(other, read(other, os.path.normpath(other), item.mark)[1], chain)
        self.values += sum(1 for _ in walk(self.trees[key]))
        if self.values > MAX_VALUES:
            message = f"more than {MAX_VALUES:,} keys and values in the files that are extended"
            raise ExperimentInvalid([problem_at(item.mark, "extends", message)])
        return self.trees[key]


def _entries(extends: Node | None) -> tuple[Node, ...]:
    if extends is None:
        return ()
    return extends.value if extends.is_list else (extends,)
