"""Which files of the user's an experiment runs, and their hashes: a result belongs to the code that made it.

The files are found by reading sources, not by importing them, so that an import inside of a function counts, too.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

from expflow.config import LoadedExperiment
from expflow.config.module_import import is_users_file
from expflow.config.user_components import import_root, source_file_of


def user_modules(loaded: LoadedExperiment) -> dict[str, str]:
    """Find and hash the user's own modules that an experiment runs.

    These are the modules named in it, also by searched values, and those that they import in turn as far as they lie
    under the experiment's folder or beside the named module; neither installed packages nor expflow itself.

    Args:
        loaded: The experiment.

    Returns:
        Path, relative to the folder that the module is imported from, to the sha256 of the file.
    """
    return {label: _sha256(file) for label, file in user_module_files(loaded).items()}


def user_module_files(loaded: LoadedExperiment) -> dict[str, Path]:
    """The files of :func:`user_modules`.

    Args:
        loaded: The experiment.

    Returns:
        Path, relative to the folder that the module is imported from, to the file.
    """
    return _module_files(loaded.experiment.file.resolve().parent, loaded.user_component_names())


def module_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """As :func:`user_modules`, for given components.

    Args:
        folder: Where the experiment file lies.
        names: The components, as ``package.module:Name``.
    """
    return {label: _sha256(file) for label, file in _module_files(folder, names).items()}


def _sha256(file: Path) -> str:
    """The sha256 of a source file.

    Args:
        file: The file.
    """
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _module_files(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    labels: dict[Path, str] = {}
    for name in sorted(names):
        module = name.partition(":")[0]
        root = _root_of(module, folder)
        if root is not None:
            _follow(module, root, labels)
    return {label: path for path, label in labels.items()}


def _root_of(module: str, folder: Path) -> Path | None:
    """The folder from which ``module`` is imported; None where it is no source file of the user's."""
    if source_file_of(module, folder) is not None:
        return folder
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    file = Path(spec.origin).resolve()
    if not is_users_file(file):
        return None
    return Path(import_root(module, spec.origin))


def _follow(module: str, root: Path, labels: dict[Path, str]) -> None:
    """Add the file of ``module``, those of the packages around it, and whatever they import below ``root``."""
    waiting = [module]
    while waiting:
        dotted = waiting.pop()
        file = source_file_of(dotted, root)
        if "." in dotted:
            waiting.append(dotted.rpartition(".")[0])
        if file is None or file in labels:
            continue
        labels[file] = file.relative_to(root.resolve()).as_posix()
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
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".") if node.level and package else []
            above = above[: len(above) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
            yield from filter(None, [base, *names])
