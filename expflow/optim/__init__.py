"""Optimizers and schedules, as factories that a task calls with its own parameters. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from expflow.config.spec import Spec, UserComponent
from expflow.registry import construct, load_dotted

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

OptimizerFactory = Callable[[Any], "Optimizer"]
"""Called with a module, or with parameters or groups of them; only a module's parts can have rates of their own."""

OptimizerConstructor = Callable[[list[Any]], "Optimizer"]
"""What a builder of an optimizer returns: called with parameters, or with groups of them."""

ScheduleFactory = Callable[["Optimizer", int, int], "LRScheduler"]
"""Called with (optimizer, total_steps, steps_per_epoch); the schedule moves once per optimizer step."""

__all__ = ["OptimizerConstructor", "OptimizerFactory", "ScheduleFactory", "build_optimizer", "build_schedule"]


def build_optimizer(spec: Spec, *, fused: bool = True, later: tuple[str, ...] = ()) -> OptimizerFactory:
    """A factory of the optimizer that ``spec`` describes.

    Args:
        spec: A registered optimizer, or the user's own class, which gets the parameters as ``params``.
        fused: Whether torch's fused kind is used; not where gradients of half precision are clipped, which fused
            optimizers do not allow.
        later: Dotted paths of the parts of the network that are frozen at first.
    """
    if isinstance(spec, UserComponent):
        return lambda params: construct(spec.name, spec.arguments, {"params": _parameters(params)})
    make: OptimizerConstructor = load_dotted(spec.build)(spec, fused)

    def factory(params: Any) -> Optimizer:
        from expflow.optim.parameter_groups import parameter_groups

        return make(parameter_groups(params, spec, later))  # type: ignore[arg-type]  # a registered optimizer's spec is an Optimizer

    return factory


def _parameters(params: Any) -> Any:
    return params.parameters() if hasattr(params, "parameters") else params


def build_schedule(spec: Spec) -> ScheduleFactory:
    """A factory of the schedule that ``spec`` describes.

    Args:
        spec: A registered schedule, or the user's own class, which gets ``optimizer``, ``total_steps`` and
            ``steps_per_epoch`` where its signature has them.
    """
    if isinstance(spec, UserComponent):
        return lambda optimizer, total_steps, steps_per_epoch: construct(
            spec.name,
            spec.arguments,
            {"optimizer": optimizer, "total_steps": total_steps, "steps_per_epoch": steps_per_epoch},
        )
    return load_dotted(spec.build)(spec)  # type: ignore[no-any-return]
