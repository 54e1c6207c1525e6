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
"""Called with parameters or parameter groups."""

ScheduleFactory = Callable[["Optimizer", int, int], "LRScheduler"]
"""Called with (optimizer, total_steps, steps_per_epoch); the schedule moves once per optimizer step."""

__all__ = ["OptimizerFactory", "ScheduleFactory", "build_optimizer", "build_schedule"]


def build_optimizer(spec: Spec) -> OptimizerFactory:
    """A factory of the optimizer that ``spec`` describes; the user's own class gets the parameters as ``params``."""
    if isinstance(spec, Foreign):
        return lambda params: construct(spec.name, spec.arguments, {"params": params})
    return load_dotted(spec.build)(spec)  # type: ignore[no-any-return]


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
