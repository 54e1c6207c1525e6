"""Arguments of the user's components against the annotations of their constructors.

Only what a YAML file can say is checked: numbers, text, truth values, and lists and mappings of these. What a
constructor expects besides, a path or a class of its own, it may make of text itself, and is left to it.
"""

from __future__ import annotations

import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

from expflow.config.tree import Node
from expflow.config.validation import check_model
from expflow.errors import Problem

SCALARS = (bool, int, float, str, type(None))
LISTS: tuple[Any, ...] = (list, tuple, set, frozenset, Sequence, Collection, Iterable)
MAPPINGS: tuple[Any, ...] = (dict, Mapping)


def argument_problems(component: Callable[..., Any], node: Node, path: Sequence[str]) -> list[Problem]:
    """What does not fit among the arguments of a component.

    Args:
        component: The class or function.
        node: The component as written: its name and arguments.
        path: The node's own key, in parts.
    """
    problems: list[Problem] = []
    arguments = {key: child for key, child in node.items.items() if key != "name"}
    model = _argument_model(component) if isinstance(component, Hashable) else _argument_model.__wrapped__(component)
    check_model(model, Node(arguments, node.mark, node.key_mark), path, problems)
    return problems


@functools.lru_cache(maxsize=64)  # a sweep makes hundreds of configs of one component
def _argument_model(component: Callable[..., Any]) -> type[BaseModel]:
    """A model with an optional field for each annotated argument."""
    fields: dict[str, Any] = {
        f"argument_{number}": (annotation, Field(None, alias=name))
        for number, (name, annotation) in enumerate(_annotations(component).items())
    }
    return create_model("Arguments", __config__=ConfigDict(extra="allow", strict=True), **fields)


def _annotations(component: Callable[..., Any]) -> dict[str, Any]:
    """Argument to its annotation, as far as a file can meet or break it; others are left out."""
    try:
        parameters = inspect.signature(component).parameters
    except (TypeError, ValueError):
        return {}
    function = inspect.unwrap(component.__init__) if inspect.isclass(component) else inspect.unwrap(component)
    names = getattr(function, "__globals__", {})
    annotations = {
        name: plain_annotation(_evaluated(parameter.annotation, names))
        for name, parameter in parameters.items()
        if parameter.annotation is not parameter.empty
    }
    return {name: annotation for name, annotation in annotations.items() if annotation is not Any}


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    """An annotation that may be written as text; ``Any`` where its names are not there at run time."""

    def holder() -> None: ...

    holder.__annotations__ = {"argument": annotation}
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["argument"]
    except Exception:  # noqa: BLE001 - the user's annotation is evaluated here and may raise anything
        return Any


def plain_annotation(annotation: Any) -> Any:
    """An annotation in which all that no file can say is ``Any``.

    Args:
        annotation: Such as ``list[int] | None``.
    """
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation in SCALARS or annotation is None or origin is Literal:
        return annotation
    if origin is Annotated:
        return plain_annotation(inside[0])
    if origin in (Union, types.UnionType):
        members = tuple(map(plain_annotation, inside))
        return Any if Any in members else functools.reduce(operator.or_, members)
    if (origin or annotation) in LISTS:
        return _list_of(origin or annotation, inside)
    if (origin or annotation) in MAPPINGS:
        return _generic(dict, str, plain_annotation(inside[1])) if len(inside) == 2 else dict[Any, Any]
    return Any


def _list_of(kind: Any, inside: tuple[Any, ...]) -> Any:
    """A list, or a tuple of as many items as the annotation has."""
    if kind is not tuple or not inside or inside[-1] is Ellipsis:
        return _generic(list, plain_annotation(inside[0])) if inside else list[Any]
    return _generic(tuple, *map(plain_annotation, inside))


def _generic(kind: Any, *parameters: Any) -> Any:
    return kind[parameters]
