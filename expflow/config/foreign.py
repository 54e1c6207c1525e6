"""The user's own components: importing them, checking arguments against their signatures, hashing their modules."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.config.identity import canonical
from expflow.config.spec import Foreign
from expflow.config.tree import Node, plain, problem
from expflow.errors import Problem, nearest
from expflow.registry import SLOTS, load_dotted

if TYPE_CHECKING:
    from expflow.config.loading import Loaded

_OF_DATA = frozenset({"in_channels", "num_classes", "image_size", "data_spec"})

SUPPLIED: Mapping[str, frozenset[str]] = {
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
class Signature:
    """What a callable takes by name. ``anything`` is true where it takes any keyword."""

    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] | None = None
    anything: bool = True


def signature_of(callable_: Any) -> Signature:
    """The signature of a class or function; one that takes anything where Python cannot tell."""
    try:
        parameters = inspect.signature(callable_).parameters.values()
    except (TypeError, ValueError):
        return Signature()
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    defaults = {each.name: each.default for each in named if each.default is not each.empty}
    names = frozenset(each.name for each in named)
    anything = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return Signature(names, names - frozenset(defaults), defaults, anything)


_FOLDERS: list[str] = []
"""Folders of experiments that were made importable, the latest last."""


def make_importable(folder: Path) -> None:
    """Let this process import modules that lie in ``folder``, before any other of that name.

    A module of the same name that came from another experiment's folder is forgotten.
    """
    path = str(folder.resolve())
    if _FOLDERS[-1:] == [path] and sys.path[:1] == [path]:
        return
    others = tuple(each for each in _FOLDERS if each != path)
    _FOLDERS[:] = [*others, path]
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file.startswith(others) and _import_root(name, file) in others and _file_of(name.partition(".")[0], folder):
            del sys.modules[name]


def _import_root(module: str, file: str) -> str:
    """The folder on the import path from which ``file`` was imported as ``module``."""
    parents = Path(file).resolve().parents
    levels = module.count(".") + (Path(file).name == "__init__.py")
    return str(parents[levels]) if levels < len(parents) else ""


def resolve_foreign(
    slot: str, node: Node, path: tuple[str, ...], folder: Path, problems: list[Problem]
) -> Foreign | None:
    """The component that a node names with ``package.module:Name``; None, and problems added, where it is wrong."""
    name_node = node.items["name"]
    found = _import(name_node, path, folder, problems)
    if found is None:
        return None
    signature = signature_of(found)
    given = {key: plain(child) for key, child in node.items.items() if key != "name" and child.value is not None}
    wrong = _unknown_arguments(slot, node, path, signature) + _missing_arguments(slot, node, path, signature, given)
    problems.extend(wrong)
    if wrong:
        return None
    spec = Foreign(name=name_node.value, **given)
    spec._usual = frozenset(key for key, value in given.items() if _is_default(key, value, signature))
    return spec


def _import(name_node: Node, path: tuple[str, ...], folder: Path, problems: list[Problem]) -> Any:
    name: str = name_node.value
    module, _, attribute = name.partition(":")

    def refuse(message: str) -> None:
        problems.append(problem(name_node.mark, ".".join((*path, "name")), message))

    if not (module and attribute and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))):
        return refuse(f"expected package.module:Name, found {name!r}")
    make_importable(folder)
    try:
        loaded = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module runs here and may raise anything
        lines = str(error).strip().splitlines() or [""]
        return refuse(f"cannot import {module} (its folder is {folder}): {type(error).__name__}: {lines[-1]}")
    try:
        found = load_dotted(name)
    except AttributeError:
        close = nearest(attribute, [each for each in vars(loaded) if not each.startswith("_")])
        hint = f"; nearest: {module}:{close}" if close else ""
        return refuse(f"{module} ({loaded.__file__}) has no {attribute}{hint}")
    return found if callable(found) else refuse(f"{name} is a {type(found).__name__}; expected a class or a function")


def _unknown_arguments(slot: str, node: Node, path: tuple[str, ...], signature: Signature) -> list[Problem]:
    if signature.anything:
        return []
    wrong = []
    for key, child in node.items.items():
        if key != "name" and key not in signature.names:
            takes = sorted(signature.names - SUPPLIED.get(slot, frozenset()))
            close = nearest(key, takes)
            hint = f"nearest: {close}" if close else f"it takes {', '.join(takes) or 'none'}"
            message = f"{node.name} takes no argument of this name; {hint}"
            wrong.append(problem(child.key_mark or child.mark, ".".join((*path, key)), message))
    return wrong


def _missing_arguments(
    slot: str, node: Node, path: tuple[str, ...], signature: Signature, given: Mapping[str, Any]
) -> list[Problem]:
    missing = sorted(signature.required - SUPPLIED.get(slot, frozenset()) - given.keys())
    return [problem(node.mark, ".".join((*path, key)), f"missing; {node.name} needs this argument") for key in missing]


def _is_default(key: str, value: Any, signature: Signature) -> bool:
    defaults = signature.defaults or {}
    if key not in defaults or not isinstance(defaults[key], bool | int | float | str | list | tuple | dict):
        return False
    try:
        return canonical(defaults[key]) == canonical(value)
    except TypeError:  # a default that holds objects: no file can say the same
        return False


def wanted_slots(spec: Foreign) -> tuple[frozenset[str], frozenset[str]]:
    """Slots that a task of the user's needs, and those that it can take: as its signature names them; data always."""
    signature = signature_of(load_dotted(spec.name))
    slots = frozenset(SLOTS) - {"task", "data"}
    return (signature.required & slots) - spec.arguments.keys(), (signature.names & slots) | {"data"}


_NOT_OWN = frozenset({"site-packages", "dist-packages", ".venv", "lib-dynload"})


def user_modules(loaded: Loaded) -> dict[str, str]:
    """Path -> sha256 of the user's own modules that an experiment runs.

    These are the modules named in it, also by searched values, and those that they import in turn as far as they lie
    under the experiment's folder or beside the named module; neither installed packages nor expflow itself. Found by
    reading the sources, so that an import inside of a function counts too.
    """
    folder = loaded.experiment.file.resolve().parent
    return module_hashes(folder, loaded.foreign_names())


def module_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """As :func:`user_modules`, for components called ``names`` of an experiment in ``folder``."""
    found: dict[Path, str] = {}
    for name in sorted(names):
        module = name.partition(":")[0]
        root = _root_of(module, folder)
        if root is not None:
            _follow(module, root, found)
    return {label: hashlib.sha256(path.read_bytes()).hexdigest() for path, label in found.items()}


def _root_of(module: str, folder: Path) -> Path | None:
    """The folder from which ``module`` is imported; None where it is no source file of the user's."""
    if _file_of(module, folder) is not None:
        return folder
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    file = Path(spec.origin).resolve()
    standard = Path(sys.base_prefix).resolve() / "lib"
    return Path(_import_root(module, spec.origin)) if _is_own(file) and not file.is_relative_to(standard) else None


def _is_own(file: Path) -> bool:
    package = Path(__file__).resolve().parents[1]
    return not _NOT_OWN.intersection(file.parts) and not file.is_relative_to(package)


def _file_of(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file() and _is_own(file.resolve()):
            return file.resolve()
    return None


def _follow(module: str, root: Path, found: dict[Path, str]) -> None:
    """Add the file of ``module``, those of the packages around it, and whatever they import below ``root``."""
    waiting = [module]
    while waiting:
        dotted = waiting.pop()
        file = _file_of(dotted, root)
        if "." in dotted:
            waiting.append(dotted.rpartition(".")[0])
        if file is None or file in found:
            continue
        found[file] = file.relative_to(root.resolve()).as_posix()
        package = dotted if file.name == "__init__.py" else dotted.rpartition(".")[0]
        waiting.extend(_imports(file, package))


def _imports(file: Path, package: str) -> Iterator[str]:
    """Dotted names that a source file may import; names of a package's members are among them."""
    try:
        parsed = ast.parse(file.read_bytes(), str(file))
    except SyntaxError:
        return
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".") if node.level and package else []
            above = above[: len(above) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from filter(None, [base, *(f"{base}.{each.name}" if base else each.name for each in node.names)])
