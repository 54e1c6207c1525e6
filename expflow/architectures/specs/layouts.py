"""Layouts that the user writes as lists: their items are checked before pydantic's errors about a union hide them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from expflow.architectures.specs.limits import MAX_LAYERS, MAX_STAGES
from expflow.config.spec import FieldError


def read_listed(value: Any, what: str, model: type[BaseModel] | None = None) -> Any:
    """Reads a layout that may be a list: a list becomes a tuple, and its mappings become models.

    Args:
        value: The value as the file has it; what is no list is returned as it is.
        what: What a whole number in the list means, for messages.
        model: What a mapping in the list becomes; None where no mappings are allowed.

    Raises:
        FieldError: An item is neither a whole number from 1 on nor such a mapping, or there are too many.
    """
    if not isinstance(value, list | tuple):
        return value
    keys = ", ".join(model.model_fields) if model else ""
    forms = f"{what}, a whole number from 1 to {MAX_LAYERS:,}" + (f", or a mapping of {keys}" if keys else "")
    if len(value) > MAX_STAGES:
        raise FieldError("0", f"a list of {len(value)}; expected at most {MAX_STAGES}")
    items: list[Any] = []
    for index, item in enumerate(value):
        if model and isinstance(item, dict):
            items.append(_read(model, item, index))
        elif (type(item) is int and 1 <= item <= MAX_LAYERS) or (model and isinstance(item, model)):
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
