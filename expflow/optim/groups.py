"""Parameter groups: which weights decay, and which have a rate of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch import nn

from expflow.architectures.heads import below, check_paths, heads_of, selector
from expflow.config.initial import BACKBONE
from expflow.errors import UserError
from expflow.optim.specs import LAMB, LARS, Optimizer


def groups(params: nn.Module | Iterable[Any], spec: Optimizer, later: Collection[str] = ()) -> list[Any]:
    """``params`` as an optimizer takes them: as they are, or in groups where ``spec`` treats some otherwise.

    ``later`` are paths of what is frozen at first. It has groups of its own: fused optimizers take the first step of a
    group for the first of all its parameters.

    Groups have a ``name`` (``backbone, no decay``) and come in the order of their first parameters. Raises
    :class:`UserError` where a rate is scaled and no modules are known, or a path leads to none.
    """
    named = _named(params)
    spares = not spec.decay_norm_and_bias and (spec.weight_decay > 0 or _adapts(spec))
    if not spec.lr_scale and not spares and not later:
        return [parameter for _, parameter in named]
    path_of = _paths(params, [name for name, _ in named], spec)
    waits = selector(params, later) if later and isinstance(params, nn.Module) else lambda name: False
    found: dict[str, dict[str, Any]] = {}
    for name, parameter in named:
        path, spared = path_of(name), spares and parameter.ndim <= 1
        words = ", ".join(filter(None, [path or "other", "no decay" if spared else "", "later" if waits(name) else ""]))
        if words not in found:
            found[words] = {"name": words, "params": [], "lr": spec.lr * spec.lr_scale.get(path, 1.0)}
            if spared:
                found[words] |= {"weight_decay": 0.0, **({"always_adapt": False} if _adapts(spec) else {})}
        found[words]["params"].append(parameter)
    return list(found.values())


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
    check_paths(params, spec.lr_scale, "optimizer.lr_scale")
    explicit = sorted((path for path in spec.lr_scale if any(below(n, path) for n in names)), key=len, reverse=True)
    heads = heads_of(params) if BACKBONE in spec.lr_scale and BACKBONE not in explicit else None

    def path_of(name: str) -> str:
        rest = BACKBONE if heads is not None and not any(below(name, head) for head in heads) else ""
        return next((path for path in explicit if below(name, path)), rest)

    return path_of
