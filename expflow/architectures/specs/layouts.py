"""Layouts that are lists of one's own: what stands in them is checked before the union it belongs to would blur it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from expflow.config.spec import FieldError


def read_listed(value: Any, what: str, model: type[BaseModel] | None = None) -> Any:
    """A list as a tuple, and its mappings as ``model`` where there is one; what is no list stays as it is.

    Raises :class:`FieldError` at the first item that is neither that nor a whole number >= 1, ``what`` it means.
    """
    if not isinstance(value, list | tuple):
        return value
    keys = ", ".join(model.model_fields) if model else ""
    forms = f"{what}, a whole number of at least 1" + (f", or a mapping of {keys}" if keys else "")
    items: list[Any] = []
    for index, item in enumerate(value):
        if model and isinstance(item, dict):
            items.append(_read(model, item, index))
        elif (type(item) is int and item >= 1) or (model and isinstance(item, model)):
            items.append(item)
        else:
            raise FieldError(str(index), f"expected {forms}; found {item!r}")
    return tuple(items)


def _read(model: type[BaseModel], item: dict[str, Any], index: int) -> BaseModel:
    try:
        return model.model_validate(item, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        expected = f"unknown key; expected {', '.join(model.model_fields)}"
        message = expected if first["type"] == "extra_forbidden" else f"{first['msg']}, found {item.get(key)!r}"
        raise FieldError(f"{index}.{key}", message if key in item else "missing") from error
