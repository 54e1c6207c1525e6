"""One component by itself, as a command line names it: without an experiment around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expflow.config.components import Scope, resolve_component
from expflow.config.merge import merge, split_key, under
from expflow.config.reading import parse_value
from expflow.config.spec import Spec
from expflow.config.tree import Mark, Node, moved, problem
from expflow.errors import ExperimentInvalid
from expflow.registry import SLOTS


def component(slot: str, text: str, sets: Sequence[str] = (), folder: Path | None = None) -> Spec:
    """The component of ``slot`` that ``text`` names: ``NAME`` or ``NAME,key=value,…``.

    ``sets`` are further ``key=value``; a key may begin with the slot (``model.depth``). ``folder`` is where the user's
    own modules lie, by default the working folder. Raises ExperimentInvalid with everything that is wrong.
    """
    name, *own = _split(text)
    mark = Mark(text)
    tree = Node({"name": Node(name, mark, mark)}, mark)
    for each in (*own, *sets):
        tree = merge(tree, _setting(slot, each), (slot,))
    scope = Scope(folder or Path.cwd())
    spec = resolve_component(SLOTS[slot], tree, (slot,), scope)
    if spec is None or scope.problems:
        raise ExperimentInvalid(scope.problems)
    return spec


def _split(text: str) -> list[str]:
    """``text`` at its commas, those inside of brackets left alone."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _setting(slot: str, text: str) -> Node:
    mark = Mark(text)
    key, equals, value = text.partition("=")
    path = split_key(key.strip())
    if path[0] == slot and len(path) > 1:
        path = path[1:]
    if not equals or not all(path):
        raise ExperimentInvalid([problem(mark, "", "expected key=value, with dots between the parts of the key")])
    return under(path, moved(parse_value(value, text), mark))
