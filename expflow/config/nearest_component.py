"""Which component of the user's a name was meant for: the modules beside the experiment file are read, not imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from expflow.errors import nearest

MAX_FILES = 200
MAX_BYTES = 1 << 20
"""More, or larger, files are not looked through for the sake of a message."""


def nearest_user_component(name: str, folder: Path) -> str:
    """The component that a name is nearest to, as ``package.module:Name``; "" where none is near.

    Args:
        name: What was written: with dots, a path (``my_net.py:MyNet``), or the bare name of a class or a module.
        folder: Where the experiment file lies.
    """
    dotted = _dotted(name)
    components = {component.replace(":", "."): component for component in _components(folder, dotted.partition(".")[0])}
    if "." in dotted:
        return components.get(nearest(dotted, components), "")
    plain = _without_case(dotted)
    by_name = [component for component in components.values() if _without_case(component.partition(":")[2]) == plain]
    in_module = [component for component in components.values() if component.partition(":")[0] == name]
    return next((group[0] for group in (by_name, in_module) if len(group) == 1), "")


def _dotted(name: str) -> str:
    """``my_net.py:MyNet``, ``./my_net.py:MyNet`` and ``my_net:MyNet`` as ``my_net.MyNet``."""
    module, colon, attribute = name.partition(":")
    module = module.removeprefix("./").removesuffix(".py").replace("/", ".")
    return f"{module}.{attribute}" if colon else module


def _without_case(name: str) -> str:
    return name.replace("_", "").lower()


def _components(folder: Path, first: str) -> Iterator[str]:
    """``module:Name`` of what the modules in a folder define for others, in its packages and in ``first``, too."""
    packages = [
        *(file.parent.name for file in folder.glob("*/__init__.py")),
        *([first] if first.isidentifier() else []),
    ]
    files = [file for place in ("", *dict.fromkeys(packages)) for file in sorted((folder / place).glob("*.py"))]
    for file in files[:MAX_FILES]:
        parts = file.relative_to(folder).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if module and all(part.isidentifier() for part in module.split(".")):
            yield from (f"{module}:{name}" for name in _defined(file))


def _defined(file: Path) -> list[str]:
    """Names of the public classes and functions at the top of a source file; none where it does not read."""
    try:
        tree = ast.parse(file.read_bytes()) if file.is_file() and file.stat().st_size <= MAX_BYTES else None
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [
        node.name
        for node in (tree.body if tree is not None else ())
        if isinstance(node, kinds) and not node.name.startswith("_")
    ]
