"""Which part of a network is its head: the layers that give scores, and that other classes need anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from expflow.config.initial_weights import BACKBONE
from expflow.errors import UserError, nearest

AUXILIARY = ("auxiliary", "aux1", "aux2", "AuxLogits", "aux_classifier")
"""Names of the children that hold auxiliary classifiers: ours, and torchvision's of GoogLeNet, Inception and FCN."""

_CHILDREN = ("head", "segmentation_head")
"""Names of the children that are heads: of our families, and of segmentation_models_pytorch."""


def heads_of(network: nn.Module) -> tuple[str, ...]:
    """Dotted paths of the layers that give scores: the classifier first, then auxiliary ones.

    The classifier is what ``get_classifier()`` gives (timm), else the child ``head`` (our families) or
    ``segmentation_head`` (smp), else the last linear layer, or the last convolution under ``classifier`` (torchvision).

    Args:
        network: Any network.

    Raises:
        UserError: There is none of these.
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
    """What ``get_classifier()`` of timm's networks returns; some have two classifiers."""
    get_classifier: Callable[[], Any] | None = getattr(network, "get_classifier", None)
    returned = get_classifier() if callable(get_classifier) else None
    classifiers = returned if isinstance(returned, tuple | list) else [returned]
    wanted = {id(classifier) for classifier in classifiers if isinstance(classifier, nn.Module)}
    return tuple(
        name for name, module in network.named_modules() if name and id(module) in wanted and _has_parameters(module)
    )


def _child(network: nn.Module) -> tuple[str, ...]:
    return tuple(name for name in _CHILDREN if isinstance(getattr(network, name, None), nn.Module))[:1]


def _last_linear(network: nn.Module, auxiliary: tuple[str, ...]) -> tuple[str, ...]:
    candidates: list[str] = []
    for name, module in network.named_modules():
        scores = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and is_within(name, "classifier"))
        if name and scores and not any(is_within(name, path) for path in auxiliary):
            candidates.append(name)
    return tuple(candidates[-1:])


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def is_within(name: str, path: str) -> bool:
    """Whether a parameter or module is at or inside of a path.

    Args:
        name: Dotted name of the parameter or module.
        path: Dotted name of a module.
    """
    return name == path or name.startswith(f"{path}.")


def check_paths(network: nn.Module, paths: Iterable[str], key: str) -> None:
    """Refuses paths that lead to no parameters.

    Args:
        network: The network that the paths are of.
        paths: Dotted names of modules or parameters; ``backbone`` is all but the heads, unless a module has that name.
        key: The recipe key that names them, for messages.

    Raises:
        UserError: One of them leads to no parameters; the message has the nearest that does.
    """
    names = [name for name, _ in network.named_parameters()]
    for path in paths:
        if any(is_within(name, path) for name in names):
            continue
        if path == BACKBONE:
            heads_of(network)
            continue
        modules = [name for name, module in network.named_modules() if name and _has_parameters(module)]
        close = nearest(path, [*modules, BACKBONE])
        hint = f"nearest: {close}" if close else f"there are {', '.join(name for name, _ in network.named_children())}"
        raise UserError(f"{key}.{path}: no module with parameters has this path; {hint}")


def path_selector(network: nn.Module, paths: Iterable[str]) -> Callable[[str], bool]:
    """A test of whether a module or parameter, by its dotted name, is at or below one of several paths.

    Args:
        network: The network that the paths are of.
        paths: Dotted names of modules or parameters; ``backbone`` is all but the heads and what holds them.

    Raises:
        UserError: ``backbone`` is among the paths, and the network has no heads; from :func:`heads_of`.
    """
    named = [name for name, _ in network.named_parameters()]
    explicit = [path for path in paths if any(is_within(name, path) for name in named)]
    heads = heads_of(network) if BACKBONE in set(paths) - set(explicit) else None

    def chosen(name: str) -> bool:
        in_backbone = heads is not None and not any(is_within(name, head) or is_within(head, name) for head in heads)
        return in_backbone or any(is_within(name, path) for path in explicit)

    return chosen
