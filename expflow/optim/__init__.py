"""Optimizers and schedules, as factories that a task calls with its own parameters. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from expflow.config.spec import Foreign, Spec
from expflow.registry import construct, load_dotted

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

OptimizerFactory = Callable[[Any], "Optimizer"]
"""Called with a module, or with parameters or groups of them; only a module's parts can have rates of their own."""

Make = Callable[[list[Any]], "Optimizer"]
"""What a builder of an optimizer gives: called with parameters, or with groups of them."""

ScheduleFactory = Callable[["Optimizer", int, int], "LRScheduler"]
"""Called with (optimizer, total_steps, steps_per_epoch); the schedule moves once per optimizer step."""

__all__ = ["Make", "OptimizerFactory", "ScheduleFactory", "build_optimizer", "build_schedule"]


def build_optimizer(spec: Spec, *, fused: bool = True, later: tuple[str, ...] = ()) -> OptimizerFactory:
    """A factory of the optimizer that ``spec`` describes; the user's own class gets the parameters as ``params``.

    ``later`` names the parts of the network that are frozen at first. ``fused`` is false where gradients of half
    precision are clipped, which fused optimizers do not allow.
    """
    if isinstance(spec, Foreign):
        return lambda params: construct(spec.name, spec.arguments, {"params": _parameters(params)})
    make: Make = load_dotted(spec.build)(spec, fused)

    def factory(params: Any) -> Optimizer:
        from expflow.optim.groups import groups

        return make(groups(params, spec, later))  # type: ignore[arg-type]  # a registered optimizer's spec is an Optimizer

    return factory


def _parameters(params: Any) -> Any:
    return params.parameters() if hasattr(params, "parameters") else params


def build_schedule(spec: Spec) -> ScheduleFactory:
    """A factory of the schedule that ``spec`` describes.

    The user's own class gets ``optimizer``, ``total_steps`` and ``steps_per_epoch`` where its signature has them.
    """
    if isinstance(spec, Foreign):
        return lambda optimizer, total_steps, steps_per_epoch: construct(
            spec.name,
            spec.arguments,
            {"optimizer": optimizer, "total_steps": total_steps, "steps_per_epoch": steps_per_epoch},
        )
    return load_dotted(spec.build)(spec)  # type: ignore[no-any-return]
