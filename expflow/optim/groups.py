"""Parameter groups: which weights decay, and which have a rate of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from expflow.errors import UserError, nearest
from expflow.optim.specs import LAMB, LARS, Optimizer

BACKBONE = "backbone"
"""Stands for the whole network but its last layer, unless a module has that name."""


def groups(params: nn.Module | Iterable[Any], spec: Optimizer) -> list[Any]:
    """``params`` as an optimizer takes them: as they are, or in groups where ``spec`` treats some otherwise.

    Groups have a ``name`` (``backbone, no decay``) and come in the order of their first parameters. Raises
    :class:`UserError` where a rate is scaled and no modules are known, or a path leads to none.
    """
    named = _named(params)
    spares = not spec.decay_norm_and_bias and (spec.weight_decay > 0 or _adapts(spec))
    if not spec.lr_scale and not spares:
        return [parameter for _, parameter in named]
    path_of = _paths(params, [name for name, _ in named], spec)
    found: dict[str, dict[str, Any]] = {}
    for name, parameter in named:
        path, spared = path_of(name), spares and parameter.ndim <= 1
        words = ", ".join(filter(None, [path or "other", "no decay" if spared else ""]))
        if words not in found:
            found[words] = {"name": words, "params": [], "lr": spec.lr * spec.lr_scale.get(path, 1.0)}
            if spared:
                found[words] |= {"weight_decay": 0.0, **({"always_adapt": False} if _adapts(spec) else {})}
        found[words]["params"].append(parameter)
    return list(found.values())


def head_of(network: nn.Module) -> str:
    """Dotted path of the network's last layer: ``head`` where it has one, else its last linear module.

    Raises :class:`UserError` where it has neither.
    """
    if isinstance(getattr(network, "head", None), nn.Module):
        return "head"
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{type(network).__name__} has no linear layer at its end: name modules, not `{BACKBONE}`")
    last: str = linear[-1]
    return last


def below(name: str, path: str) -> bool:
    """Whether the parameter or module ``name`` is at or inside of ``path``."""
    return name == path or name.startswith(f"{path}.")


def _adapts(spec: Optimizer) -> bool:
    """Whether the optimizer scales its steps layer by layer, from which biases and norms are left out as well."""
    return isinstance(spec, LARS | LAMB)


def _named(params: nn.Module | Iterable[Any]) -> list[tuple[str, Any]]:
    """Each parameter with its dotted path, "" where only parameters are known."""
    if isinstance(params, nn.Module):
        return list(params.named_parameters())
    return [("", each) for each in params]


def _paths(params: nn.Module | Iterable[Any], names: list[str], spec: Optimizer) -> Callable[[str], str]:
    """Which of ``lr_scale``'s paths a parameter belongs to: the longest that it is below, "" for none."""
    if not spec.lr_scale:
        return lambda name: ""
    if not isinstance(params, nn.Module):
        raise UserError("optimizer.lr_scale: the task hands over parameters; hand over the module that has them")
    for path in spec.lr_scale:
        if path != BACKBONE and not any(below(name, path) for name in names):
            modules = [name for name, _ in params.named_modules() if name]
            close = nearest(path, modules)
            hint = (
                f"nearest: {close}" if close else f"there are {', '.join(name for name, _ in params.named_children())}"
            )
            raise UserError(f"optimizer.lr_scale.{path}: no module with parameters has this path; {hint}")
    explicit = sorted((path for path in spec.lr_scale if any(below(n, path) for n in names)), key=len, reverse=True)
    head = head_of(params) if BACKBONE in spec.lr_scale and BACKBONE not in explicit else None

    def path_of(name: str) -> str:
        rest = BACKBONE if head is not None and not below(name, head) else ""
        return next((path for path in explicit if below(name, path)), rest)

    return path_of
