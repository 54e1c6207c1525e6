"""Which part of a network is its head: the layers that give scores, and that other classes need anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from expflow.config.initial import BACKBONE
from expflow.errors import UserError, nearest

AUXILIARY = ("auxiliary", "aux1", "aux2", "AuxLogits")
"""Names of the children that hold auxiliary classifiers: ours, and torchvision's of GoogLeNet and Inception."""


def heads_of(network: nn.Module) -> tuple[str, ...]:
    """Dotted paths of the layers that give scores: the classifier first, then auxiliary ones.

    The classifier is what ``get_classifier()`` gives (timm), else the child ``head`` (our families), else the last
    linear layer, or the last convolution under ``classifier`` (torchvision).
    Raises :class:`UserError` where there is none of these.
    """
    auxiliary = tuple(name for name, _ in network.named_children() if name in AUXILIARY)
    main = _classifiers(network) or _child(network) or _last_linear(network, auxiliary)
    if not main:
        raise UserError(
            f"{type(network).__name__} has no child `head` and no linear layer at its end: name modules, not "
            f"`{BACKBONE}`, or call its last layer `head`"
        )
    return (*main, *auxiliary)


def _classifiers(network: nn.Module) -> tuple[str, ...]:
    """What timm's networks say of themselves; some have two classifiers."""
    ask: Callable[[], Any] | None = getattr(network, "get_classifier", None)
    said = ask() if callable(ask) else None
    wanted = {id(each) for each in (said if isinstance(said, tuple | list) else [said]) if isinstance(each, nn.Module)}
    return tuple(name for name, each in network.named_modules() if name and id(each) in wanted and _learns(each))


def _child(network: nn.Module) -> tuple[str, ...]:
    return ("head",) if isinstance(getattr(network, "head", None), nn.Module) else ()


def _last_linear(network: nn.Module, auxiliary: tuple[str, ...]) -> tuple[str, ...]:
    kinds: list[str] = []
    for name, each in network.named_modules():
        scores = isinstance(each, nn.Linear) or (isinstance(each, nn.Conv2d) and below(name, "classifier"))
        if name and scores and not any(below(name, path) for path in auxiliary):
            kinds.append(name)
    return tuple(kinds[-1:])


def _learns(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def below(name: str, path: str) -> bool:
    """Whether the parameter or module ``name`` is at or inside of ``path``."""
    return name == path or name.startswith(f"{path}.")


def check_paths(network: nn.Module, paths: Iterable[str], key: str) -> None:
    """Raise :class:`UserError` where one of ``paths`` leads to no parameters; the message has the nearest that does.

    ``key`` is the recipe key that names them. ``backbone`` is all but the heads, unless a module has that name.
    """
    names = [name for name, _ in network.named_parameters()]
    for path in paths:
        if any(below(name, path) for name in names):
            continue
        if path == BACKBONE:
            heads_of(network)
            continue
        modules = [name for name, each in network.named_modules() if name and _learns(each)]
        close = nearest(path, [*modules, BACKBONE])
        hint = f"nearest: {close}" if close else f"there are {', '.join(name for name, _ in network.named_children())}"
        raise UserError(f"{key}.{path}: no module with parameters has this path; {hint}")


def selector(network: nn.Module, paths: Iterable[str]) -> Callable[[str], bool]:
    """Whether a module or parameter of ``network``, by its dotted name, is at or below one of ``paths``.

    ``backbone`` is all but the heads and what holds them. Raises :class:`UserError` where there are no heads.
    """
    named = [name for name, _ in network.named_parameters()]
    explicit = [path for path in paths if any(below(name, path) for name in named)]
    heads = heads_of(network) if BACKBONE in set(paths) - set(explicit) else None

    def chosen(name: str) -> bool:
        in_backbone = heads is not None and not any(below(name, head) or below(head, name) for head in heads)
        return in_backbone or any(below(name, path) for path in explicit)

    return chosen
