"""``sweep.space`` as written, to dimensions: every form, bound, key and condition is checked at its place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, cast

from expflow.config.child_space import CHILD_FORMS, ChildSpaceError, child_dimensions
from expflow.config.components import LoadingContext
from expflow.config.merge import merge, tree_of_values
from expflow.config.schema import Dimension
from expflow.config.searchable_keys import ABSENT, SearchableKeys, value_of_key
from expflow.config.space import contains, finite_values, in_condition_order, same_value
from expflow.config.tree import Node, describe_value, from_plain, plain
from expflow.config.validation import unknown_key
from expflow.errors import UserError, nearest

FORMS = ("uniform", "loguniform", "int", "choice")
MAX_KEYS = 100
MAX_INT = 2**53

Kind = Literal["choice", "uniform", "loguniform", "int"]


def read_space(node: Node, tree: Node, context: LoadingContext) -> tuple[Dimension, ...]:
    """The dimensions in ``sweep.space``.

    Args:
        node: The space as written.
        tree: The merged file.
        context: Problems are noted here.
    """
    if not node.is_mapping:
        context.refuse(
            node.mark,
            "sweep.space",
            f"expected a mapping of searched keys to values, found {describe_value(node.value)}",
        )
        return ()
    if len(node.items) > MAX_KEYS:
        context.refuse(node.mark, "sweep.space", f"{len(node.items)} searched keys; at most {MAX_KEYS} are possible")
        return ()
    before = len(context.problems)
    children = {key: child for key, child in node.items.items() if child.value is not None}
    keys = SearchableKeys(tree, children, context)
    space, child_spaces = _written_dimensions(children, keys, context)
    if twice := sorted(space.keys() & child_spaces.keys()):
        node = children[twice[0]]
        context.refuse(node.key_mark or node.mark, f"sweep.space.{twice[0]}", "a space of children holds this key, too")
    if len(context.problems) > before:
        return tuple(space.values())
    settled = {key: _settle_when(space, key, children, keys, tree, context) for key in space}
    if len(context.problems) == before:
        _check_circle(settled, children, context)
    return (*settled.values(), *child_spaces.values())


def _written_dimensions(
    children: Mapping[str, Node], keys: SearchableKeys, context: LoadingContext
) -> tuple[dict[str, Dimension], dict[str, Dimension]]:
    """The dimensions as written, and those that spaces of children stand for."""
    space: dict[str, Dimension] = {}
    child_spaces: dict[str, Dimension] = {}
    for key, child in children.items():
        if reason := keys.why_not(key):
            context.refuse(child.key_mark or child.mark, f"sweep.space.{key}", reason)
        if _is_child_form(child):
            child_spaces |= _child_space(key, child, context)
        elif (dimension := _dimension(key, child, context)) is not None:
            space[key] = dimension
    return space, child_spaces


def _is_child_form(node: Node) -> bool:
    return node.is_mapping and any(form in node.items for form in CHILD_FORMS)


def _child_space(key: str, node: Node, context: LoadingContext) -> dict[str, Dimension]:
    """The dimensions of a space of children."""
    path, form = f"sweep.space.{key}", next(form for form in CHILD_FORMS if form in node.items)
    if extra := [part for part in node.items if part != form]:
        place = node.items[extra[0]]
        context.refuse(place.key_mark or place.mark, f"{path}.{extra[0]}", f"{form} takes no other key beside it")
        return {}
    written = node.items[form]
    try:
        return {dimension.key: dimension for dimension in child_dimensions(key, form, plain(written))}
    except ChildSpaceError as error:
        place = written.child(error.key) or written
        context.refuse(place.mark, ".".join(filter(None, (path, form, error.key))), str(error))
        return {}


def _check_circle(space: Mapping[str, Dimension], nodes: Mapping[str, Node], context: LoadingContext) -> None:
    try:
        in_condition_order(list(space.values()))
    except UserError as error:
        first = next(key for key, dimension in space.items() if dimension.when and key in str(error))
        context.refuse(nodes[first].items["when"].mark, f"sweep.space.{first}.when", str(error))


def _dimension(key: str, node: Node, context: LoadingContext) -> Dimension | None:
    """One searched key's values, with the conditions as written."""
    path = f"sweep.space.{key}"
    if node.is_list:
        return _choice(key, node, (), context)
    if not node.is_mapping:
        context.refuse(
            node.mark, path, f"expected a list of values or one of {_forms()}, found {describe_value(node.value)}"
        )
        return None
    kinds = [form for form in FORMS if node.child(form) is not None]
    if len(kinds) != 1:
        written = " and ".join(kinds) if kinds else ", ".join(node.items)
        context.refuse(node.mark, path, f"expected a list of values or exactly one of {_forms()}, found {written}")
        return None
    kind = cast(Kind, kinds[0])
    allowed = (*kinds, "when", *(("step", "log") if kind == "int" else ()))
    wrong = [part for part in node.items if part not in allowed]
    for part in wrong:
        context.refuse(node.items[part].key_mark or node.mark, f"{path}.{part}", unknown_key(part, allowed))
    when = _when(path, node.child("when"), context)
    if wrong or when is None:
        return None
    if kind == "choice":
        return _choice(key, node.items["choice"], when, context)
    return _interval(key, kind, node, when, context)


def _forms() -> str:
    return (
        "{uniform: [low, high]}, {loguniform: [low, high]}, {int: [low, high]}, {choice: [...]}, {layers: …}, {cell: …}"
    )


When = tuple[tuple[str, tuple[Any, ...]], ...]


def _choice(key: str, node: Node, when: When, context: LoadingContext) -> Dimension | None:
    if not node.is_list or not node.value:
        written = describe_value(node.value) if not node.is_list else "an empty one"
        context.refuse(node.mark, f"sweep.space.{key}", f"expected a list of values, found {written}")
        return None
    return Dimension(key=key, kind="choice", values=tuple(plain(node)), when=dict(when))


def _interval(key: str, kind: Kind, node: Node, when: When, context: LoadingContext) -> Dimension | None:
    path, ends = f"sweep.space.{key}.{kind}", node.items[kind]
    values = plain(ends)
    number: Any = int if kind == "int" else (int, float)
    right = isinstance(values, list) and len(values) == 2 and all(_is_number(end, number) for end in values)
    step, log = node.child("step"), node.child("log")
    if not right:
        what = "whole numbers" if kind == "int" else "numbers"
        written = values if ends.is_list else describe_value(values)
        context.refuse(ends.mark, path, f"expected [low, high], two {what}; found {written}")
    elif not values[0] < values[1]:
        context.refuse(ends.mark, path, f"expected [low, high] with low below high, found {values}")
    elif values[0] <= 0 and (kind == "loguniform" or (log is not None and log.value)):
        context.refuse(ends.mark, path, f"a log scale needs a low end above 0, found {values[0]}")
    elif step is not None and not (_is_number(step.value, int) and step.value >= 1):
        context.refuse(
            step.mark, f"sweep.space.{key}.step", f"expected a whole number of at least 1, found {step.value!r}"
        )
    elif log is not None and not isinstance(log.value, bool):
        context.refuse(log.mark, f"sweep.space.{key}.log", f"expected true or false, found {describe_value(log.value)}")
    elif log is not None and log.value and step is not None and step.value != 1:
        context.refuse(step.mark, f"sweep.space.{key}.step", "step and log do not go together; leave one of them out")
    else:
        low, high = values
        steps = step.value if step is not None else 1
        logs = log is not None and log.value
        return Dimension(key=key, kind=kind, low=low, high=high, step=steps, log=logs, when=dict(when))
    return None


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < MAX_INT


def _when(path: str, node: Node | None, context: LoadingContext) -> When | None:
    """The conditions as written: key -> values at which it holds; None where they do not read."""
    if node is None:
        return ()
    if not node.is_mapping or not node.items:
        context.refuse(node.mark, f"{path}.when", "expected a mapping of keys to a value or a list of values")
        return None
    return tuple((key, tuple(plain(child)) if child.is_list else (plain(child),)) for key, child in node.items.items())


def _settle_when(
    space: Mapping[str, Dimension],
    key: str,
    nodes: Mapping[str, Node],
    keys: SearchableKeys,
    tree: Node,
    context: LoadingContext,
) -> Dimension:
    """The dimension with its conditions rewritten to name searched keys only."""
    dimension, settled = space[key], dict[str, tuple[Any, ...]]()
    for asked, wanted in dimension.when.items():
        node = nodes[key].items["when"].items[asked]
        place = f"sweep.space.{key}.when.{asked}"
        source, holds, message = _condition(asked, wanted, space, keys, tree)
        if message:
            unknown_key = message.startswith("unknown key")
            context.refuse((node.key_mark if unknown_key else None) or node.mark, place, message)
        elif source:
            earlier = settled.get(source)
            settled[source] = (
                holds if earlier is None else tuple(v for v in holds if any(same_value(v, w) for w in earlier))
            )
    return dimension.model_copy(update={"when": settled})


def _condition(
    asked: str, wanted: tuple[Any, ...], space: Mapping[str, Dimension], keys: SearchableKeys, tree: Node
) -> tuple[str, tuple[Any, ...], str]:
    """Searched key, its values at which the condition holds, and what is wrong.

    No searched key where the condition holds always. A condition on a part of a searched mapping
    (``model.name`` where ``model`` is searched) becomes one on the mapping.
    """
    if asked in space:
        strange = [value for value in wanted if not contains(space[asked], value)]
        return asked, wanted, not_searched(asked, strange[0], space[asked]) if strange else ""
    name_key = f"{asked.split('.')[0]}.name"
    sources = [key for key in space if asked.startswith(f"{key}.") or key == name_key]
    if not sources:
        value = value_of_key(tree, asked)
        if value is ABSENT:
            close = nearest(asked, [*keys.roles, *space])
            return (
                "",
                (),
                f"unknown key; nearest valid key: {close}" if close else "unknown key; expected a key of the recipe",
            )
        if any(same_value(value, active) for active in wanted):
            return "", (), ""
        return "", (), f"never active: {asked} is {value!r} in every config; remove this key, or search {asked}"
    if len(sources) > 1 or space[sources[0]].kind != "choice":
        return "", (), f"depends on {' and '.join(sources)}; write the condition on one of these, listed, instead"
    source = sources[0]
    holds = tuple(
        value
        for value in space[source].values
        if any(same_value(value_of_key(tree_with_value(tree, source, value), asked), active) for active in wanted)
    )
    return source, holds, "" if holds else f"never active: no value of {source} has this {asked}"


def tree_with_value(tree: Node, key: str, value: Any) -> Node:
    """The tree with one searched value in it.

    Args:
        tree: The merged file.
        key: The searched key.
        value: The value.
    """
    return merge(tree, tree_of_values({key: from_plain(value, tree.mark)}, tree.mark))


def not_searched(key: str, value: Any, dimension: Dimension) -> str:
    """The message about a value that a searched key never takes.

    Args:
        key: The searched key, as the message names it.
        value: The value.
        dimension: The values that it takes.
    """
    if dimension.kind != "choice":
        steps = f" in steps of {dimension.step}" if dimension.step > 1 else ""
        return f"{value!r} is not searched; {key} goes from {dimension.low:g} to {dimension.high:g}{steps}"
    return not_among(key, value, finite_values(dimension))


def not_among(key: str, value: Any, values: Any) -> str:
    """The message about a value that is not among others, with the nearest of them.

    Args:
        key: The key, as the message names it.
        value: The value.
        values: The others.
    """
    numbers = [number for number in values if isinstance(number, int | float) and not isinstance(number, bool)]
    if isinstance(value, int | float) and not isinstance(value, bool) and numbers:
        close: Any = min(numbers, key=lambda number: abs(number - value))
    else:
        close = nearest(str(value), [text for text in values if isinstance(text, str)])
    known = ", ".join(str(item.get("name", "…") if isinstance(item, Mapping) else item) for item in values)
    return f"{value!r} is not among the values of {key} ({known})" + (f"; nearest: {close}" if close != "" else "")
