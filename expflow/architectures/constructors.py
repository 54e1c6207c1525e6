"""What a package constructs under a model's name, found without constructing it.

torchvision and timm have a function for each name. It chooses arguments and hands them, with the caller's, to a class:
through ``build_model_with_cfg`` in timm, directly in torchvision. A copy of that function, in which this last step only
notes what it is given, tells the class, the chosen arguments, and whether one of the caller's collides with them.
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
    """A class, and what a package's function calls it with."""

    cls: type[nn.Module]
    arguments: Mapping[str, Any]

    def parameters(self) -> dict[str, Any]:
        """What the class takes by name, and what each is here; a parameter without a value is None."""
        found: dict[str, Any] = {}
        passes_on, config = False, self.arguments.get("cfg")
        for each in self.cls.__mro__:
            if not issubclass(each, nn.Module) or each is nn.Module or "__init__" not in vars(each):
                continue
            parameters = list(inspect.signature(each).parameters.values())
            found = {one.name: _value(one.default) for one in parameters if one.kind in _NAMED} | found
            passes_on = any(one.kind is one.VAR_KEYWORD for one in parameters)
            if not passes_on:
                break
        if passes_on and dataclasses.is_dataclass(config) and not isinstance(config, type):
            found |= {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
        return found | {name: value for name, value in self.arguments.items() if name in found}

    def annotation(self, name: str) -> Any:
        """The annotation of a parameter; ``Any`` where there is none."""
        config = self.arguments.get("cfg")
        for each in (*self.cls.__mro__, type(config)):
            try:
                parameter = inspect.signature(each).parameters.get(name)
            except (TypeError, ValueError):  # a class that Python cannot look into
                continue
            if parameter is not None and parameter.annotation is not parameter.empty:
                return parameter.annotation
        return Any


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _value(default: Any) -> Any:
    return None if default is inspect.Parameter.empty else default


class _Reached(Exception):
    def __init__(self, construction: Construction) -> None:
        self.construction = construction


def _copy(
    function: Callable[..., Any], package: str, stead: Mapping[str, Any], done: dict[Any, FunctionType]
) -> FunctionType:
    """``function`` with names replaced as ``stead`` says, also in the functions of ``package`` that it calls."""
    original: Any = inspect.unwrap(function)
    if original in done:
        return done[original]
    names = dict(original.__globals__)
    code = original.__code__
    copy = FunctionType(code, names, original.__name__, original.__defaults__, original.__closure__)
    copy.__kwdefaults__ = original.__kwdefaults__
    done[original] = copy
    for name in code.co_names:
        found = names.get(name)
        if name in stead:
            names[name] = stead[name]
        elif inspect.isfunction(found) and found.__module__.startswith(package):
            names[name] = _copy(found, package, stead, done)
    return copy


def _note_timm(cls: type[nn.Module], variant: str, pretrained: bool, **arguments: Any) -> NoReturn:
    """In the place of timm's ``build_model_with_cfg``."""
    config = {"cfg": arguments["model_cfg"]} if "model_cfg" in arguments else {}
    own = inspect.signature(timm.models.build_model_with_cfg).parameters
    raise _Reached(Construction(cls, {key: each for key, each in arguments.items() if key not in own} | config))


def _follow(
    function: Callable[..., Any], package: str, stead: Mapping[str, Any], given: Mapping[str, Any]
) -> Construction:
    try:
        _copy(function, package, stead, {})(**given)
    except _Reached as reached:
        return reached.construction
    raise TypeError(f"{function.__name__} constructs nothing in the way of its package")


def timm_construction(name: str, given: Mapping[str, Any]) -> Construction:
    """What timm constructs under ``name`` with the arguments ``given``.

    Raises TypeError where one of them collides with what timm chooses for this name.
    """
    function = timm.models.model_entrypoint(name)
    return _follow(function, "timm.models", {"build_model_with_cfg": _note_timm}, given)


def torchvision_construction(name: str, given: Mapping[str, Any]) -> Construction:
    """What torchvision constructs under ``name`` with the arguments ``given``.

    Raises TypeError where one of them collides with what torchvision chooses for this name.
    """
    function = torchvision.models.get_model_builder(name)
    cls = inspect.signature(function).return_annotation

    def note(*positional: Any, **named: Any) -> NoReturn:
        bound = inspect.signature(cls).bind_partial(*positional, **named)
        raise _Reached(Construction(cls, bound.arguments | bound.arguments.pop("kwargs", {})))

    for device in ("meta", "cpu"):  # vgg makes its layers on the way; regnet computes with tensors, which meta cannot
        with suppress(NotImplementedError), torch.device(device):
            return _follow(function, "torchvision.models", {cls.__name__: note}, {"weights": None, **given})
    raise TypeError(f"what torchvision constructs under {name} cannot be told")


def described(cls: type) -> dict[str, str]:
    """Parameter -> what the docstrings of a class and of its bases say of it in their list of arguments."""
    found: dict[str, str] = {}
    for each in cls.__mro__:
        for text in (each.__doc__, vars(each).get("__init__").__doc__ if "__init__" in vars(each) else ""):
            _, _, listed = inspect.cleandoc(text or "").partition("Args:")
            for name, words in re.findall(r"^\s*[-*]?\s*`?(\w+)`?\s*(?:\(.*?\))?\s*:\s+(\S.*)$", listed, re.MULTILINE):
                found.setdefault(name, words.strip())
    return found
