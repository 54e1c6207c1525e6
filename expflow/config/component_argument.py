"""One component by itself, as a command line names it: without an experiment around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expflow.config.components import LoadingContext, resolve_component
from expflow.config.merge import merge, split_key, tree_with
from expflow.config.spec import Spec
from expflow.config.tree import Mark, Node, problem_at, relocated
from expflow.config.yaml_reader import MAX_DEPTH, parse_value
from expflow.errors import ExperimentInvalid
from expflow.registry import SLOTS


def parse_component(slot: str, text: str, sets: Sequence[str] = (), folder: Path | None = None) -> Spec:
    """The component that a command line names.

    Args:
        slot: The slot that it would stand in.
        text: ``NAME`` or ``NAME,key=value,…``.
        sets: Further ``key=value``; a key may begin with the slot (``model.depth``).
        folder: Where the user's own modules lie; by default the working folder.

    Raises:
        ExperimentInvalid: Something in it is wrong; it holds all problems.
    """
    name, *own = _split(text)
    mark = Mark(text)
    tree = Node({"name": Node(name, mark, mark)}, mark)
    for setting in (*own, *sets):
        tree = merge(tree, _setting(slot, setting), (slot,))
    context = LoadingContext(folder or Path.cwd())
    spec = resolve_component(SLOTS[slot], tree, (slot,), context)
    if spec is None or context.problems:
        raise ExperimentInvalid(context.problems)
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
        raise ExperimentInvalid([problem_at(mark, "", "expected key=value, with dots between the parts of the key")])
    if len(path) > MAX_DEPTH:
        raise ExperimentInvalid([problem_at(mark, "", f"a key of {len(path)} parts; expected at most {MAX_DEPTH}")])
    return tree_with(path, relocated(parse_value(value, text), mark))
