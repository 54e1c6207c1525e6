"""torchmetrics is imported without scipy.signal and matplotlib, which come when somebody uses them.

Where they are installed, torchmetrics imports both: scipy.signal to give it an old name back (``hamming``, for the
package gammatone), matplotlib for the plots of its metrics. That is a quarter of all that a rank imports before it
trains, and a training needs neither. So while torchmetrics is imported, stand-ins lie in their places, unless gammatone
is there, or scienceplots, which changes the plots. A stand-in knows what torchmetrics takes from it then; for anything
else, and for anybody later, it is the real module.

This leans on what torchmetrics does as it is imported. Nothing but time depends on it: a version that takes something
else gets the real modules at once, and ``tests/test_torchmetrics_imports.py`` notices.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT = "torchmetrics"


def hold_back_imports() -> None:
    """Have torchmetrics imported without them, in this process and from here on."""
    if ROOT not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Later(type):
    """In the place of a class that is not imported yet: its instances are those of the real one.

    Attributes:
        home: The real one's module.
    """

    home: str

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, getattr(importlib.import_module(cls.home), cls.__name__))


def _later(home: str, name: str) -> _Later:
    return _Later(name, (), {"home": home})


@contextlib.contextmanager
def _style_context(*arguments: Any, **keywords: Any) -> Iterator[None]:
    with importlib.import_module("matplotlib.pyplot").style.context(*arguments, **keywords):
        yield


class _StandIn(ModuleType):
    """In the place of a module that was not imported yet: whoever asks it for more than it knows gets the real one's.

    Args:
        name: The module's name.
        known: What it knows.
    """

    def __init__(self, name: str, **known: object) -> None:
        super().__init__(name)
        self.known = known

    def __getattr__(self, name: str) -> Any:
        if name in self.known:
            return self.known[name]
        if name == "__file__" and sys.modules.get(self.__name__) is self:
            raise AttributeError(name)  # inspect asks every module for it, and some have none
        _withdraw()
        return getattr(importlib.import_module(self.__name__), name)


def _of_scipy() -> list[_StandIn]:
    return [_StandIn("scipy.signal", hamming=None)]


def _of_matplotlib() -> list[_StandIn]:
    axes = SimpleNamespace(Axes=_later("matplotlib.axes", "Axes"))
    colors = SimpleNamespace(Colormap=_later("matplotlib.colors", "Colormap"))
    style = SimpleNamespace(context=_style_context)
    pyplot = _StandIn("matplotlib.pyplot", Figure=_later("matplotlib.figure", "Figure"), style=style)
    whole = _StandIn("matplotlib", axes=axes, colors=colors, pyplot=pyplot)
    whole.__spec__ = importlib.util.find_spec("matplotlib")  # torchmetrics looks whether it is installed
    return [whole, pyplot, _StandIn("matplotlib.axes")]


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """In the body there are stand-ins of libraries that were not imported yet, and are needed by nobody."""
    for name, needing, stand_ins in (
        ("scipy.signal", "gammatone", _of_scipy),
        ("matplotlib", "scienceplots", _of_matplotlib),
    ):
        if name not in sys.modules and _is_installed(name.partition(".")[0]) and not _is_installed(needing):
            sys.modules.update({module.__name__: module for module in stand_ins()})
    try:
        yield
    finally:
        _withdraw()


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _withdraw() -> None:
    """From here on the names of all stand-ins lead to the real modules, and so do the stand-ins that somebody keeps."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, _StandIn):
            module.known.clear()
            del sys.modules[name]


class _Loader(importlib.abc.Loader):
    """Executes torchmetrics with the stand-ins in their places.

    Args:
        loader: torchmetrics' own.
    """

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As its own loader does it."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As its own loader does it, which it is left with."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        with _held_back():
            self._loader.exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds torchmetrics where everybody else does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the path gives, with a loader that holds back; None for every other module."""
        if fullname != ROOT:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec
