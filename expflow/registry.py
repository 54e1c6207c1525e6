"""Names that YAML may use, and where each one's spec lives.

A *spec* is a frozen pydantic model of a component's arguments, in a module that does not import torch; its ``build``
names the builder, which may. Both are dotted paths, imported when first needed, so that reading and checking an
experiment never pays for torch. This file knows names and paths only: it imports nothing above floor 0.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from expflow.errors import UnknownName, UserError


def load_dotted(path: str) -> Any:
    """The object that ``package.module:Name`` names.

    Raises ImportError when the module cannot be imported and AttributeError when it has no such name.
    """
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def construct(path: str, arguments: Mapping[str, Any], supplied: Mapping[str, Any]) -> Any:
    """Call what ``path`` names with ``arguments``, and with those of ``supplied`` that its signature asks for by name.

    ``arguments`` (the YAML's) win over ``supplied`` (ours). Raises :class:`UserError` when the name leads nowhere or
    the arguments do not fit; what the call itself raises is passed on.
    """
    try:
        target = load_dotted(path)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # compiled code may have none that Python can read
        return target(**arguments)
    named = [name for name, each in signature.parameters.items() if each.kind not in _UNNAMED]
    given = {key: value for key, value in supplied.items() if key in named} | dict(arguments)
    try:
        signature.bind(**given)
    except TypeError as error:
        raise UserError(f"{path} does not fit its arguments: {error}; it takes {', '.join(named) or 'none'}") from error
    return target(**given)


_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


class Registry:
    """The components of one slot (``model``, ``loss``, …) by name.

    ``kind`` is the slot's word in messages. ``entries`` maps a name to the dotted path of its spec.
    """

    def __init__(self, kind: str, entries: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, str] = dict(entries or {})

    def add(self, name: str, spec: str) -> None:
        """Register ``name``; ``spec`` is the dotted path of its spec class. A name can be taken only once."""
        if name in self._entries:
            raise UserError(f"{self.kind} {name!r} is registered twice: {self._entries[name]} and {spec}")
        self._entries[name] = spec

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def spec(self, name: str) -> type[Any]:
        """The spec class of ``name`` (imports its module). Raises :class:`UnknownName`."""
        if name not in self._entries:
            raise UnknownName(self.kind, name, self.names())
        return load_dotted(self._entries[name])


MODELS = Registry(
    "model",
    {
        "resnet": "expflow.architectures.specs.resnet:ResNet",
        "mlp": "expflow.architectures.specs.mlp:MLP",
        "linear": "expflow.architectures.specs.linear:Linear",
    },
)
LOSSES = Registry("loss", {"cross_entropy": "expflow.losses.specs:CrossEntropy"})
OPTIMIZERS = Registry(
    "optimizer",
    {
        "sgd": "expflow.optim.specs:SGD",
        "adam": "expflow.optim.specs:Adam",
        "adamw": "expflow.optim.specs:AdamW",
    },
)
SCHEDULES = Registry(
    "schedule",
    {
        "constant": "expflow.optim.specs:Constant",
        "step": "expflow.optim.specs:Step",
        "cosine": "expflow.optim.specs:Cosine",
        "one_cycle": "expflow.optim.specs:OneCycle",
    },
)
TASKS = Registry(
    "task",
    {
        "classification": "expflow.tasks.specs:Classification",
        "scripted": "expflow.tasks.specs:Scripted",
    },
)
SOURCES = Registry(
    "data",
    {
        "digits": "expflow.data.specs:Digits",
        "folder": "expflow.data.specs:Folder",
    },
)
SEARCHERS = Registry(
    "searcher",
    {
        "grid": "expflow.sweep.specs:Grid",
        "random": "expflow.sweep.specs:Random",
    },
)
SCHEDULERS = Registry("scheduler", {"none": "expflow.sweep.specs:NoScheduler"})

SLOTS: dict[str, Registry] = {
    "data": SOURCES,
    "model": MODELS,
    "task": TASKS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""The recipe's slots, each filled by one component or by a mapping of the user's names to components."""
