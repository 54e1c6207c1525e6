"""Which class and arguments a package constructs a network from, read without constructing it.

torchvision and timm have a function for each name. It chooses arguments and hands them, with the caller's, to a class:
through ``build_model_with_cfg`` in timm, directly in torchvision. A copy of that function, in which this last step only
records what it is given, shows the class, the chosen arguments, and whether one of the caller's collides with them.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NoReturn

import timm
import torch
import torchvision
from torch import nn


@dataclass(frozen=True)
class Construction:
    """A network's class, and the arguments that a package's function calls it with.

    Attributes:
        cls: The class of the network.
        arguments: Keyword arguments: those that the function chose, and the caller's.
    """

    cls: type[nn.Module]
    arguments: Mapping[str, Any]

    def parameters(self) -> dict[str, Any]:
        """The parameters that the class takes by name with their values here; one without a value is None."""
        values: dict[str, Any] = {}
        passes_on, config = False, self.arguments.get("cfg")
        for cls in self.cls.__mro__:
            if not issubclass(cls, nn.Module) or cls is nn.Module or "__init__" not in vars(cls):
                continue
            parameters = list(inspect.signature(cls).parameters.values())
            own = {parameter.name: _value(parameter.default) for parameter in parameters if parameter.kind in _NAMED}
            values = own | values
            passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
            if not passes_on:
                break
        if passes_on and dataclasses.is_dataclass(config) and not isinstance(config, type):
            values |= {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        return values | {name: value for name, value in self.arguments.items() if name in values}

    def annotation(self, name: str) -> Any:
        """The annotation of a parameter; ``Any`` where there is none.

        Args:
            name: The parameter's name.
        """
        config = self.arguments.get("cfg")
        for cls in (*self.cls.__mro__, type(config)):
            try:
                parameter = inspect.signature(cls).parameters.get(name)
            except (TypeError, ValueError):  # a class that Python cannot look into
                continue
            if parameter is not None and parameter.annotation is not parameter.empty:
                return parameter.annotation
        return Any


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _value(default: Any) -> Any:
    return None if default is inspect.Parameter.empty else default


class _Reached(Exception):
    """Raised where the package would construct the network."""

    def __init__(self, construction: Construction) -> None:
        self.construction = construction


def _copy(
    function: Callable[..., Any], package: str, replacements: Mapping[str, Any], copies: dict[Any, FunctionType]
) -> FunctionType:
    """``function`` with global names replaced, also in the functions of ``package`` that it calls."""
    original: Any = inspect.unwrap(function)
    if original in copies:
        return copies[original]
    names = dict(original.__globals__)
    code = original.__code__
    copy = FunctionType(code, names, original.__name__, original.__defaults__, original.__closure__)
    copy.__kwdefaults__ = original.__kwdefaults__
    copies[original] = copy
    for name in code.co_names:
        value = names.get(name)
        if name in replacements:
            names[name] = replacements[name]
        elif inspect.isfunction(value) and value.__module__.startswith(package):
            names[name] = _copy(value, package, replacements, copies)
    return copy


def _record_timm(cls: type[nn.Module], variant: str, pretrained: bool, **arguments: Any) -> NoReturn:
    """In the place of timm's ``build_model_with_cfg``."""
    config = {"cfg": arguments["model_cfg"]} if "model_cfg" in arguments else {}
    own = inspect.signature(timm.models.build_model_with_cfg).parameters
    raise _Reached(Construction(cls, {key: value for key, value in arguments.items() if key not in own} | config))


def _follow(
    function: Callable[..., Any], package: str, replacements: Mapping[str, Any], given: Mapping[str, Any]
) -> Construction:
    """What ``function`` constructs with the arguments ``given``, read from a copy of it."""
    try:
        _copy(function, package, replacements, {})(**given)
    except _Reached as reached:
        return reached.construction
    raise TypeError(f"{function.__name__} constructs nothing in the way of its package")


def timm_construction(name: str, given: Mapping[str, Any]) -> Construction:
    """The class and the arguments that timm constructs a network from.

    Args:
        name: The network's name in timm.
        given: The caller's arguments.

    Raises:
        TypeError: One of them collides with what timm chooses for this name.
    """
    function = timm.models.model_entrypoint(name)
    return _follow(function, "timm.models", {"build_model_with_cfg": _record_timm}, given)


def torchvision_construction(name: str, given: Mapping[str, Any]) -> Construction:
    """The class and the arguments that torchvision constructs a network from.

    Args:
        name: The network's name in torchvision.
        given: The caller's arguments.

    Raises:
        TypeError: One of them collides with what torchvision chooses for this name.
    """
    function = torchvision.models.get_model_builder(name)
    cls = inspect.signature(function).return_annotation

    def record(*positional: Any, **named: Any) -> NoReturn:
        bound = inspect.signature(cls).bind_partial(*positional, **named)
        raise _Reached(Construction(cls, bound.arguments | bound.arguments.pop("kwargs", {})))

    for device in ("meta", "cpu"):  # vgg makes its layers on the way; regnet computes with tensors, which meta cannot
        with suppress(NotImplementedError), torch.device(device):
            return _follow(function, "torchvision.models", {cls.__name__: record}, {"weights": None, **given})
    raise TypeError(f"what torchvision constructs under {name} cannot be told")


def documented_parameters(cls: type) -> dict[str, str]:
    """Descriptions of a class's parameters, read from the docstrings of the class and of its bases.

    Args:
        cls: The class.

    Returns:
        Parameter -> what the ``Args:`` of the nearest docstring that has it say.
    """
    descriptions: dict[str, str] = {}
    for base in cls.__mro__:
        for text in (base.__doc__, vars(base).get("__init__").__doc__ if "__init__" in vars(base) else ""):
            _, _, listed = inspect.cleandoc(text or "").partition("Args:")
            for name, words in re.findall(r"^\s*[-*]?\s*`?(\w+)`?\s*(?:\(.*?\))?\s*:\s+(\S.*)$", listed, re.MULTILINE):
                descriptions.setdefault(name, words.strip())
    return descriptions
