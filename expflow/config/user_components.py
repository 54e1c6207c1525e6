"""The user's own components: importing them, and checking their arguments against their signatures."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.config.argument_types import argument_problems
from expflow.config.identity import canonical_json
from expflow.config.module_import import ModuleExits, import_user_module, is_users_file
from expflow.config.nearest_component import nearest_user_component
from expflow.config.spec import UserComponent
from expflow.config.tree import Node, plain, problem_at
from expflow.errors import Problem, nearest
from expflow.registry import SLOTS, load_dotted

_OF_DATA = frozenset({"in_channels", "num_classes", "image_size", "data_spec"})

SUPPLIED_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "data": frozenset({"seed"}),
    "model": _OF_DATA,
    "task": _OF_DATA | {"model", "loss", "optimizer", "schedule"},
    "loss": frozenset({"data_spec", "reduction"}),
    "optimizer": frozenset({"params"}),
    "schedule": frozenset({"optimizer", "total_steps", "steps_per_epoch"}),
    "searcher": frozenset({"space", "mode"}),
    "scheduler": frozenset({"surroundings"}),
}
"""Arguments that expflow fills in where a signature names them, by slot."""


@dataclass(frozen=True)
class ComponentSignature:
    """What a class or function takes by name.

    Attributes:
        names: All arguments.
        required: Those without a default.
        defaults: The others with their defaults.
        anything: Whether it takes any keyword.
    """

    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] | None = None
    anything: bool = True


def signature_of(component: Any) -> ComponentSignature:
    """The signature of a class or function; one that takes anything where Python cannot tell.

    Args:
        component: The class or function.
    """
    try:
        parameters = inspect.signature(component).parameters.values()
    except (TypeError, ValueError):
        return ComponentSignature()
    named = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    defaults = {parameter.name: parameter.default for parameter in named if parameter.default is not parameter.empty}
    names = frozenset(parameter.name for parameter in named)
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return ComponentSignature(names, names - frozenset(defaults), defaults, anything)


_FOLDERS: list[str] = []
"""Folders of experiments that were made importable, the latest last."""


def make_importable(folder: Path) -> None:
    """Let this process import modules that lie in a folder, before any other of that name.

    A module of the same name that came from another experiment's folder is forgotten.

    Args:
        folder: Where an experiment file lies.
    """
    path = str(folder.resolve())
    if _FOLDERS[-1:] == [path] and sys.path[:1] == [path]:
        return
    others = tuple(other for other in _FOLDERS if other != path)
    _FOLDERS[:] = [*others, path]
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        top = name.partition(".")[0]
        if file.startswith(others) and import_root(name, file) in others and source_file_of(top, folder):
            del sys.modules[name]


def import_root(module: str, file: str) -> str:
    """The folder on the import path from which a module was imported; "" where its file lies too high for that.

    Args:
        module: The module's dotted name.
        file: Its source file.
    """
    parents = Path(file).resolve().parents
    levels = module.count(".") + (Path(file).name == "__init__.py")
    return str(parents[levels]) if levels < len(parents) else ""


def source_file_of(module: str, root: Path) -> Path | None:
    """The user's source file that a module is when it is imported from a folder; None where there is none.

    Args:
        module: The module's dotted name.
        root: The folder.
    """
    base = root.joinpath(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file() and is_users_file(file.resolve()):
            return file.resolve()
    return None


def resolve_user_component(
    slot: str, node: Node, path: tuple[str, ...], folder: Path, problems: list[Problem]
) -> UserComponent | None:
    """Import the component that a node names with ``package.module:Name``, and check its arguments.

    Args:
        slot: The slot that it stands in.
        node: The component as written: its name and arguments.
        path: The node's own key, in parts.
        folder: Where the experiment file lies.
        problems: What is wrong is added here.

    Returns:
        The component; None where something is wrong.
    """
    name_node = node.items["name"]
    component = _import(name_node, path, folder, problems)
    if component is None:
        return None
    signature = signature_of(component)
    given = {key: plain(child) for key, child in node.items.items() if key != "name" and child.value is not None}
    wrong = _unknown_arguments(slot, node, path, signature) + _missing_arguments(slot, node, path, signature, given)
    wrong += argument_problems(component, node, path)
    problems.extend(wrong)
    if wrong:
        return None
    spec = UserComponent(name=name_node.value, **given)
    spec.note_defaults(key for key, value in given.items() if _is_default(key, value, signature))
    return spec


def _import(name_node: Node, path: tuple[str, ...], folder: Path, problems: list[Problem]) -> Any:
    name: str = name_node.value
    module, _, attribute = name.partition(":")

    def refuse(message: str) -> None:
        problems.append(problem_at(name_node.mark, ".".join((*path, "name")), message))

    if not (module and attribute and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))):
        return refuse(f"expected package.module:Name, found {name!r}{_meant(name, folder)}")
    make_importable(folder)
    try:
        imported = import_user_module(module)
    except ModuleExits as error:
        return refuse(str(error))
    except Exception as error:  # noqa: BLE001 - the user's module runs here and may raise anything
        lines = str(error).strip().splitlines() or [""]
        message = f"cannot import {module} (its folder is {folder}): {type(error).__name__}: {lines[-1]}"
        return refuse(message + (_not_installed(error, module) or _not_there(error, name, folder)))
    try:
        component = load_dotted(name)
    except AttributeError:
        close = nearest(attribute, [known for known in vars(imported) if not known.startswith("_")])
        hint = f"; nearest: {module}:{close}" if close else ""
        return refuse(f"{module} ({imported.__file__}) has no {attribute}{hint}")
    if not callable(component):
        return refuse(f"{name} is a {type(component).__name__}; expected a class or a function")
    return component


def _not_installed(error: BaseException, module: str) -> str:
    """What to do where the user's module needs a package that is missing; "" where that is not the reason."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not missing or missing == module.partition(".")[0]:
        return ""
    return f"; the package {missing!r} is not installed: install it here ({sys.prefix}), and wherever trials run"


def _not_there(error: BaseException, name: str, folder: Path) -> str:
    """What was meant, where the module that is named is not there."""
    return _meant(name, folder) if isinstance(error, ModuleNotFoundError) else ""


def _meant(name: str, folder: Path) -> str:
    """The end of a message about a name that leads nowhere."""
    component = nearest_user_component(name, folder)
    return f"; did you mean {component}?" if component and component != name else ""


def _unknown_arguments(slot: str, node: Node, path: tuple[str, ...], signature: ComponentSignature) -> list[Problem]:
    if signature.anything:
        return []
    wrong = []
    for key, child in node.items.items():
        if key != "name" and key not in signature.names:
            takes = sorted(signature.names - SUPPLIED_ARGUMENTS.get(slot, frozenset()))
            close = nearest(key, takes)
            hint = f"nearest: {close}" if close else f"it takes {', '.join(takes) or 'none'}"
            message = f"{node.name} takes no argument of this name; {hint}"
            wrong.append(problem_at(child.key_mark or child.mark, ".".join((*path, key)), message))
    return wrong


def _missing_arguments(
    slot: str, node: Node, path: tuple[str, ...], signature: ComponentSignature, given: Mapping[str, Any]
) -> list[Problem]:
    missing = sorted(signature.required - SUPPLIED_ARGUMENTS.get(slot, frozenset()) - given.keys())
    message = f"missing; {node.name} needs this argument"
    return [problem_at(node.mark, ".".join((*path, key)), message) for key in missing]


def _is_default(key: str, value: Any, signature: ComponentSignature) -> bool:
    defaults = signature.defaults or {}
    if key not in defaults or not isinstance(defaults[key], bool | int | float | str | list | tuple | dict):
        return False
    try:
        return canonical_json(defaults[key]) == canonical_json(value)
    except TypeError:  # a default that holds objects: no file can say the same
        return False


def slots_of_user_task(task: UserComponent) -> tuple[frozenset[str], frozenset[str]]:
    """The slots that a task of the user's uses, as its signature names them.

    Args:
        task: The task.

    Returns:
        The slots that it needs, and those that it can take; ``data`` is always among the latter.
    """
    signature = signature_of(load_dotted(task.name))
    slots = frozenset(SLOTS) - {"task", "data"}
    return (signature.required & slots) - task.arguments.keys(), (signature.names & slots) | {"data"}


_OF_LIGHTNING = ("lightning", "pytorch_lightning")


def needs_data(task: UserComponent) -> str:
    """Why a recipe with a task of the user's has to name data; "" where the task brings its own, or may.

    Args:
        task: The task: a LightningModule, or a function that makes one, of which nothing is known before it is called.
    """
    cls = load_dotted(task.name)
    hook = getattr(cls, "train_dataloader", None) if isinstance(cls, type) else None
    if hook is None or getattr(hook, "__module__", "").partition(".")[0] not in _OF_LIGHTNING:
        return ""
    module = sys.modules[cls.__module__]
    beside = [name for name, value in vars(module).items() if _is_data_module(value, module.__name__)]
    example = f"{module.__name__}:{beside[0]}" if beside else "package.module:YourDataModule"
    return f'the task {task.name} has no train_dataloader of its own; say where its samples come from: "{example}"'


def _is_data_module(value: Any, module: str) -> bool:
    """Whether a class of a module's own is a LightningDataModule. Lightning is not imported for it."""
    names = (base.__name__ for base in value.__mro__[1:]) if isinstance(value, type) else ()
    return "LightningDataModule" in names and value.__module__ == module and not value.__name__.startswith("_")
