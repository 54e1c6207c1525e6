"""``lightning.pytorch`` and ``pytorch_lightning`` are one package to a process that runs components of the user's.

Lightning publishes the same modules under two names, ``pytorch_lightning`` with ``lightning_fabric``, and
``lightning.pytorch`` with ``lightning.fabric``. Imported as they are, these are two trees of classes: a module of the
one is no LightningModule to a Trainer of the other. Here the one that is imported first stands for the other as well.
So a Trainer, callbacks, strategies and loggers fit a user's module however it, or a package that it uses, spells the
import, and a process pays for one import of Lightning, not for two.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

TREES = (("pytorch_lightning", "lightning.pytorch"), ("lightning_fabric", "lightning.fabric"))
"""The roots of the same modules under both names; the first is what expflow itself imports."""


def unify_lightning() -> None:
    """Have both names of Lightning lead to the same modules, in this process and from here on.

    Where both were imported before as two packages, they stay two (:func:`two_lightnings` says so).
    """
    if any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        return
    loaded = [any(pair[side] in sys.modules for pair in TREES) for side in (0, 1)]
    if not all(loaded):
        theirs_first = loaded[1]
        sys.meta_path.insert(0, _AliasFinder(dict(TREES if theirs_first else (pair[::-1] for pair in TREES))))


def two_lightnings() -> str:
    """What to do where both names were imported, as two packages, before expflow was asked for anything; else ""."""
    for ours, theirs in TREES:
        loaded = sys.modules.get(ours), sys.modules.get(theirs)
        if None not in loaded and loaded[0] is not loaded[1]:
            return (
                f"; {ours} and {theirs} were both imported in this process, as two packages whose classes do not fit"
                " each other: begin a new process (restart the kernel), and import expflow's experiment before them"
            )
    return ""


class _AliasLoader(importlib.abc.Loader):
    """Gives a module that is imported under another name.

    Args:
        name: That name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: Any = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module of the other name."""
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It was executed under its own name; the import machinery has given it the alias's spec meanwhile."""
        module.__spec__ = self._spec


class _AliasFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of one tree in the other.

    Args:
        originals: Root of a tree of aliases to the root that it stands for.
    """

    def __init__(self, originals: Mapping[str, str]) -> None:
        self._originals = originals

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec of the same module in the other tree; None for modules that are no aliases."""
        for root, original in self._originals.items():
            if fullname == root or fullname.startswith(f"{root}."):
                if fullname == root:
                    _check_versions()
                loader = _AliasLoader(original + fullname.removeprefix(root))
                return importlib.machinery.ModuleSpec(fullname, loader)
        return None


def _check_versions() -> None:
    """Raise ImportError where the two installed packages are not the same version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        versions = version("lightning"), version("pytorch-lightning")
    except PackageNotFoundError:  # then the one that is missing cannot be imported under its own name either
        return
    if versions[0] != versions[1]:
        raise ImportError(
            f"lightning {versions[0]} and pytorch-lightning {versions[1]} are both installed, and expflow takes them"
            f" for one package: pip install lightning=={versions[1]}"
        )
