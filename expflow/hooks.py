"""Names for the user's own components: a decorator for this process, entry points for installed packages.

Any component may be named ``package.module:Name`` in YAML without being registered anywhere. A short name is given

- by ``@expflow.register("model", "my_net")`` above a class or function, in the process that imports its module, such as
  a notebook that calls :func:`expflow.load`;
- by an entry point of an installed package, for every command: group ``expflow.model`` (``.loss``, ``.optimizer``,
  ``.schedule``, ``.task``, ``.data``, ``.searcher``, ``.scheduler``), ``my_net = "my_package.nets:MyNet"``.

Either way the recipe holds the dotted path, so that ids, ledgers and other processes do not depend on short names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from expflow.errors import UserError, nearest
from expflow.registry import REGISTRIES

UserCallable = TypeVar("UserCallable", bound=Callable[..., object])


def register(kind: str, name: str) -> Callable[[UserCallable], UserCallable]:
    """Decorator that gives a class or function of the user's a short name in YAML.

    Args:
        kind: ``model``, ``loss``, ``optimizer``, ``schedule``, ``task``, ``data``, ``searcher`` or ``scheduler``.
        name: What YAML may call it.

    Raises:
        UserError: There is no such kind, the name is taken, or no other process could import the component.
    """
    if kind not in REGISTRIES:
        close = nearest(kind, REGISTRIES)
        raise UserError(
            f"no kind of component is called {kind!r}; " + (f"nearest: {close}" if close else ", ".join(REGISTRIES))
        )

    def give_name(component: UserCallable) -> UserCallable:
        REGISTRIES[kind].add_short_name(name, _path(component))
        return component

    return give_name


def _path(component: Callable[..., object]) -> str:
    """The dotted path under which another process finds ``component``."""
    module, inside = getattr(component, "__module__", ""), getattr(component, "__qualname__", "")
    if not module or module == "__main__" or not inside or "<" in inside:
        raise UserError(
            f"{inside or component!r} cannot be registered: trials run in other processes, which can only import what"
            " lies at the top of a module; move it into a file of its own"
        )
    return f"{module}:{inside}"
