"""Parameter groups: which weights decay, and which have a rate of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from torch import nn

from expflow.architectures.heads import check_paths, heads_of, is_within, path_selector
from expflow.config.initial_weights import BACKBONE
from expflow.errors import UserError
from expflow.optim.specs import LAMBSpec, LARSSpec, OptimizerSpec


def parameter_groups(params: nn.Module | Iterable[Any], spec: OptimizerSpec, later: Collection[str] = ()) -> list[Any]:
    """The parameters as an optimizer takes them: as they are, or in groups where ``spec`` treats some otherwise.

    Args:
        params: The module whose parameters they are, or the parameters alone, or groups of them.
        spec: Rates of parts of the network, and whether biases and norms decay.
        later: Dotted paths of what is frozen at first. It has groups of its own: fused optimizers take the first step
            of a group for the first of all its parameters.

    Returns:
        Parameters, or groups in the order of their first parameters, which have a ``name`` (``backbone, no decay``).

    Raises:
        UserError: A rate is scaled and no modules are known, or a path leads to none.
    """
    named = _named(params)
    spares = not spec.decay_norm_and_bias and (spec.weight_decay > 0 or _adapts(spec))
    if not spec.lr_scale and not spares and not later:
        return [parameter for _, parameter in named]
    path_of = _paths(params, [name for name, _ in named], spec)
    is_later = path_selector(params, later) if later and isinstance(params, nn.Module) else lambda name: False
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in named:
        path, spared = path_of(name), spares and parameter.ndim <= 1
        words = [path or "other", "no decay" if spared else "", "later" if is_later(name) else ""]
        group = ", ".join(filter(None, words))
        if group not in groups:
            groups[group] = {"name": group, "params": [], "lr": spec.lr * spec.lr_scale.get(path, 1.0)}
            if spared:
                groups[group] |= {"weight_decay": 0.0, **({"always_adapt": False} if _adapts(spec) else {})}
        groups[group]["params"].append(parameter)
    return list(groups.values())


def _adapts(spec: OptimizerSpec) -> bool:
    """Whether the optimizer scales its steps layer by layer, from which biases and norms are left out as well."""
    return isinstance(spec, LARSSpec | LAMBSpec)


def _named(params: nn.Module | Iterable[Any]) -> list[tuple[str, Any]]:
    """Each parameter with its dotted path, "" where only parameters are known."""
    if isinstance(params, nn.Module):
        return list(params.named_parameters())
    return [("", parameter) for parameter in params]


def _paths(params: nn.Module | Iterable[Any], names: list[str], spec: OptimizerSpec) -> Callable[[str], str]:
    """Which of ``lr_scale``'s paths a parameter belongs to: the longest that it is below, "" for none."""
    if not spec.lr_scale:
        return lambda name: ""
    if not isinstance(params, nn.Module):
        raise UserError("optimizer.lr_scale: the task hands over parameters; hand over the module that has them")
    check_paths(params, spec.lr_scale, "optimizer.lr_scale")
    explicit = sorted((path for path in spec.lr_scale if any(is_within(n, path) for n in names)), key=len, reverse=True)
    heads = heads_of(params) if BACKBONE in spec.lr_scale and BACKBONE not in explicit else None

    def path_of(name: str) -> str:
        rest = BACKBONE if heads is not None and not any(is_within(name, head) for head in heads) else ""
        return next((path for path in explicit if is_within(name, path)), rest)

    return path_of
