"""Names that YAML may use, and where each one's spec lives.

A *spec* is a frozen pydantic model of a component's arguments, in a module that does not import torch; its ``build``
names the builder, which may. Both are dotted paths, imported when first needed, so that reading and checking an
experiment never pays for torch. Each package declares its own components in a light module (``components.py``), which
is imported when a name of that kind is first looked up: this module imports nothing above floor 0.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from expflow.errors import UnknownName, UserError
from expflow.garbage import nothing_collected
from expflow.lightning_alias import unify_lightning
from expflow.torchmetrics_imports import hold_back_imports

HOOKS_VARIABLE = "EXPFLOW_HOOKS"
"""Environment variable; ``off`` leaves what installed packages bring along alone."""

_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


def load_dotted(path: str) -> Any:
    """Import the object that a dotted path names.

    Args:
        path: ``package.module:Name``, where ``Name`` may have dots, too.

    Raises:
        ImportError: The module cannot be imported.
        AttributeError: It has no such name.
    """
    unify_lightning()
    hold_back_imports()
    module, _, name = path.partition(":")
    own = module.partition(".")[0] == "expflow"
    with nothing_collected() if own else contextlib.nullcontext():  # a user's module may switch the search off
        value: Any = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def construct(path: str, arguments: Mapping[str, Any], supplied: Mapping[str, Any]) -> Any:
    """Call what a dotted path names. What the call itself raises is passed on.

    Args:
        path: ``package.module:Name`` of a class or function.
        arguments: Its keyword arguments (the YAML's); they win over ``supplied``.
        supplied: What expflow can fill in; only those are passed that the signature asks for by name.

    Returns:
        What the call returns.

    Raises:
        UserError: The name leads nowhere, or the arguments do not fit.
    """
    try:
        target = load_dotted(path)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # compiled code may have none that Python can read
        return target(**arguments)
    named = [name for name, parameter in signature.parameters.items() if parameter.kind not in _UNNAMED]
    given = {key: value for key, value in supplied.items() if key in named} | dict(arguments)
    try:
        signature.bind(**given)
    except TypeError as error:
        raise UserError(f"{path} does not fit its arguments: {error}; it takes {', '.join(named) or 'none'}") from error
    return target(**given)


@functools.cache
def _all_entry_points() -> dict[str, tuple[tuple[str, str], ...]]:
    from importlib.metadata import entry_points  # which reads every installed package's list: 30 ms

    groups: dict[str, tuple[tuple[str, str], ...]] = {}
    installed = entry_points()
    for group in installed.groups:
        if group.startswith("expflow."):
            groups[group] = tuple((point.name, point.value) for point in installed.select(group=group))
    return groups


def _entry_points() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Group -> (name, dotted path) of what installed packages bring along."""
    return {} if os.environ.get(HOOKS_VARIABLE, "") == "off" else _all_entry_points()


@dataclass(frozen=True)
class Component:
    """The declaration of one component of expflow.

    Attributes:
        name: What YAML calls it.
        spec: Dotted path of its spec.
        is_prefix: Whether ``name`` is what a family of names begins with (``timm/``). Whether there is such a name, the
            family's spec finds out.
    """

    name: str
    spec: str
    is_prefix: bool = False


@dataclass(frozen=True)
class Preset:
    """A well-known name that stands for a component with some of its arguments, as ``resnet50`` does.

    Attributes:
        name: What YAML may call it.
        component: The component that it is.
        arguments: What it sets of the component's arguments; what a file writes beside the name wins.
    """

    name: str
    component: str
    arguments: Mapping[str, Any]


def _by_name(kind: str, components: Iterable[Component]) -> dict[str, Component]:
    table: dict[str, Component] = {}
    for component in components:
        if (other := table.setdefault(component.name, component)) is not component:
            raise ValueError(f"the {kind} {component.name!r} is declared twice: {other.spec} and {component.spec}")
    return table


class Registry:
    """The components of one kind (``model``, ``loss``, …) by name.

    Args:
        kind: The kind's word in messages and in entry points.
        declared: Dotted path of the tuple of :class:`Component` that expflow brings along. It is imported when a name
            is first looked up; a name that stands in it twice is then a ValueError, which names both.
        presets: Dotted path of the mapping of names to :class:`Preset`; it is imported when a name is none of a
            component. Empty where the kind has none.
    """

    def __init__(self, kind: str, declared: str, presets: str = "") -> None:
        self.kind = kind
        self._declared = declared
        self._preset_path = presets
        self._short_names: dict[str, str] = {}

    @functools.cached_property
    def _components(self) -> dict[str, Component]:
        return _by_name(self.kind, load_dotted(self._declared))

    @functools.cached_property
    def presets(self) -> Mapping[str, Preset]:
        """The well-known names by name; a component's own name is none of them."""
        return load_dotted(self._preset_path) if self._preset_path else {}

    def preset(self, name: object) -> Preset | None:
        """What a well-known name stands for; None for any other name. A short name of the user's goes before.

        Args:
            name: What stands as the name in the file.
        """
        if not self._preset_path or not isinstance(name, str) or not name.replace("_", "").isalnum():
            return None  # as a path of the user's, or a name below a prefix: the table need not be read
        if name in self._components or self.path_of_short_name(name) is not None:
            return None
        return self.presets.get(name)

    def add_short_name(self, name: str, path: str) -> None:
        """Give the user's component at a dotted path a short name.

        Args:
            name: What YAML may call it from now on, in this process.
            path: ``package.module:Name`` of the component.

        Raises:
            UserError: The name leads to something else already.
        """
        ours = self._components.get(name)
        taken = ours.spec if ours is not None else self._installed().get(name) or self._short_names.get(name)
        if taken not in (None, path):
            raise UserError(f"the {self.kind} {name!r} is registered twice: {taken} and {path}")
        self._short_names[name] = path

    def path_of_short_name(self, name: object) -> str | None:
        """The dotted path behind a name that a decorator or an installed package gave. Passes on a UserError.

        Packages are looked for only where a name is not one of ours.

        Args:
            name: What stands as the name in the file.

        Returns:
            The path; None for any other name.
        """
        if not isinstance(name, str) or name in self._components:
            return None
        return self._short_names.get(name) or self._installed().get(name)

    def short_names(self) -> list[str]:
        """The names that decorators and installed packages gave, sorted."""
        return sorted({*self._short_names, *self._installed()})

    def _installed(self) -> dict[str, str]:
        """Name -> dotted path from entry points. Raises UserError where a name is taken."""
        installed: dict[str, str] = {}
        for name, path in _entry_points().get(f"expflow.{self.kind}", ()):
            ours = self._components.get(name)
            if (taken := ours.spec if ours is not None else installed.get(name)) is not None:
                raise UserError(
                    f"the {self.kind} {name!r} is registered twice, by the entry points of installed packages: {taken}"
                    f" and {path}; uninstall one, or set {HOOKS_VARIABLE}=off"
                )
            installed[name] = path
        return installed

    def names(self) -> list[str]:
        """All names that are declared one by one, sorted."""
        return sorted(name for name, component in self._components.items() if not component.is_prefix)

    def prefixes(self) -> list[str]:
        """What further names may begin with, sorted."""
        return sorted(name for name, component in self._components.items() if component.is_prefix)

    def _component(self, name: object) -> Component | None:
        if not isinstance(name, str):
            return None
        component = self._components.get(name)
        if component is not None:
            return None if component.is_prefix else component
        families = (component for component in self._components.values() if component.is_prefix)
        return next((family for family in families if name.startswith(family.name)), None)

    def __contains__(self, name: object) -> bool:
        return self._component(name) is not None

    def spec(self, name: str) -> type[Any]:
        """The spec class of a component; imports its module.

        Args:
            name: One of :meth:`names`, or a name that begins with one of :meth:`prefixes`.

        Raises:
            UnknownName: There is no such component; the message says the nearest.
        """
        component = self._component(name)
        if component is None:
            raise UnknownName(self.kind, name, [*self.names(), *(f"{prefix}<name>" for prefix in self.prefixes())])
        return load_dotted(component.spec)


MODELS = Registry("model", "expflow.architectures.components:MODELS", "expflow.architectures.presets:PRESETS")
LOSSES = Registry("loss", "expflow.losses.components:LOSSES")
OPTIMIZERS = Registry("optimizer", "expflow.optim.components:OPTIMIZERS")
SCHEDULES = Registry("schedule", "expflow.optim.components:SCHEDULES")
TASKS = Registry("task", "expflow.tasks.components:TASKS")
SOURCES = Registry("data", "expflow.data.components:SOURCES")
SEARCHERS = Registry("searcher", "expflow.sweep.searchers.components:SEARCHERS")
SCHEDULERS = Registry("scheduler", "expflow.sweep.schedulers.components:SCHEDULERS")
LAUNCHERS = Registry("launcher", "expflow.cluster.components:LAUNCHERS")

SLOTS: dict[str, Registry] = {
    "data": SOURCES,
    "model": MODELS,
    "task": TASKS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""The recipe's slots, each filled by one component or by a mapping of the user's names to components."""

REGISTRIES: dict[str, Registry] = {**SLOTS, "searcher": SEARCHERS, "scheduler": SCHEDULERS, "launcher": LAUNCHERS}
"""Everything that is chosen by name, by its word in messages and in entry points (``expflow.model``)."""
