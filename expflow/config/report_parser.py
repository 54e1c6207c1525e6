"""The section ``report``: figures and claims about what is searched."""

from __future__ import annotations

from typing import Any

from expflow.config.components import LoadingContext
from expflow.config.report_settings import ReportSettings
from expflow.config.schema import Dimension, Sweep
from expflow.config.searchable_keys import value_of_key
from expflow.config.space import contains, same_value
from expflow.config.space_parser import not_among, not_searched, tree_with_value
from expflow.config.tree import Node
from expflow.config.validation import check_model
from expflow.errors import nearest


def read_report(node: Node, sweep: Sweep | None, tree: Node, context: LoadingContext) -> ReportSettings | None:
    """The section ``report``: figures and contrasts can only speak of searched keys and values.

    Args:
        node: The section as written.
        sweep: What is searched, if anything is.
        tree: The merged file.
        context: Problems are noted here.

    Returns:
        The section; None where something is wrong.
    """
    report = check_model(ReportSettings, node, ("report",), context.problems)
    space = {dimension.key: dimension for dimension in sweep.space} if sweep is not None else {}
    for index, figure in enumerate(_children(node, "figures")):
        for part in ("x", "line"):
            child = figure.child(part)
            if child is not None and isinstance(child.value, str) and (message := _unsearched(child.value, space)):
                context.refuse(child.mark, f"report.figures.{index}.{part}", message)
    for index, contrast in enumerate(_children(node, "contrasts")):
        for side in ("of", "against", "where"):
            values = contrast.child(side)
            for key, child in values.items.items() if values is not None else ():
                _check_value(key, child, space, tree, f"report.contrasts.{index}.{side}.{key}", context)
        _check_levels(contrast, space, tree, index, context)
    return report


def _check_levels(contrast: Node, space: dict[str, Dimension], tree: Node, index: int, context: LoadingContext) -> None:
    """The keys of ``by`` and ``tuned_over`` are searched ones, and the values of ``by`` among those searched."""
    by = contrast.child("by")
    for key, child in by.items.items() if by is not None and by.is_mapping else ():
        place = f"report.contrasts.{index}.by.{key}"
        for level in child.value if child.is_list else ():
            _check_value(key, level, space, tree, place, context)
    tuned = contrast.child("tuned_over")
    for child in tuned.value if tuned is not None and tuned.is_list else ():
        if isinstance(child.value, str) and (message := _unsearched(child.value, space)):
            context.refuse(child.mark, f"report.contrasts.{index}.tuned_over", message)


def _children(node: Node, key: str) -> tuple[Node, ...]:
    child = node.child(key)
    return child.value if child is not None and child.is_list else ()


def _source(key: str, space: dict[str, Dimension]) -> Dimension | None:
    """The dimension that decides ``key``: its own, or that of a whole mapping around it."""
    return next((part for name, part in space.items() if key == name or key.startswith(f"{name}.")), None)


def _unsearched(key: str, space: dict[str, Dimension]) -> str:
    if _source(key, space) is not None:
        return ""
    if not space:
        return f"{key} is not searched; this experiment has no sweep.space"
    close = nearest(key, space)
    return f"{key} is not searched; " + (f"nearest: {close}" if close else f"searched are {', '.join(space)}")


def _check_value(
    key: str, node: Node, space: dict[str, Dimension], tree: Node, place: str, context: LoadingContext
) -> None:
    if message := _unsearched(key, space):
        context.refuse(node.key_mark or node.mark, place, message)
        return
    dimension = _source(key, space)
    if dimension is None or node.is_mapping or node.is_list:
        return
    if key == dimension.key:
        if not contains(dimension, node.value) and not _is_name_of(node.value, dimension):
            context.refuse(node.mark, place, not_searched(key, node.value, dimension))
        return
    values = [value_of_key(tree_with_value(tree, dimension.key, choice), key) for choice in dimension.values]
    if not any(same_value(node.value, value) for value in values):
        context.refuse(node.mark, place, not_among(key, node.value, values))


def _is_name_of(value: Any, dimension: Dimension) -> bool:
    """Whether a bare word names one of the searched whole mappings."""
    return any(isinstance(choice, dict) and choice.get("name") == value for choice in dimension.values)
