"""Learning-rate schedules, each a share of the full rate as a function of the optimizer step t of T."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from expflow.optim import ScheduleFactory, specs

MOMENTUM_RANGE = (0.95, 0.85)
"""Momentum at the lowest and at the highest rate of one cycle (the defaults of torch's ``OneCycleLR``)."""


def _by_share(share: Callable[[int, int, int], float]) -> ScheduleFactory:
    """A schedule whose rate is ``share(step, total_steps, steps_per_epoch)`` of the optimizer's own."""

    def factory(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: share(step, total_steps, steps_per_epoch))

    return factory


def _half_cosine(start: float, end: float, position: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, position))) / 2


def constant(spec: specs.Constant) -> ScheduleFactory:
    """1, always."""
    return _by_share(lambda step, total, per_epoch: 1.0)


def step(spec: specs.Step) -> ScheduleFactory:
    """factor^floor(epoch / every)."""
    return _by_share(lambda step, total, per_epoch: spec.factor ** (step // per_epoch // spec.every))


def cosine(spec: specs.Cosine) -> ScheduleFactory:
    """final + (1 - final) (1 + cos(pi t / T)) / 2 (Loshchilov and Hutter 2017, equation 5, one period)."""
    return _by_share(lambda step, total, per_epoch: _half_cosine(1.0, spec.final, step / total))


class OneCycleLR(LambdaLR):
    """The rate follows ``position``'s first share and the momentum its second, each step (torch's ``OneCycleLR``)."""

    def __init__(self, optimizer: Optimizer, position: Callable[[int], tuple[float, float]]) -> None:
        self._position = position
        super().__init__(optimizer, lambda step: position(step)[0])

    def get_lr(self) -> list[float | Tensor]:
        """The rates of this step; sets the momentum of this step on the way, as torch's own schedule does."""
        high, low = MOMENTUM_RANGE
        momentum = high - (high - low) * self._position(self.last_epoch)[1]
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif group.get("momentum"):
                group["momentum"] = momentum
        return super().get_lr()


def one_cycle(spec: specs.OneCycle) -> ScheduleFactory:
    """Two half cosines, initial -> 1 over the warm-up and 1 -> final over the rest, as in torch's ``OneCycleLR``.

    The momentum goes 0.95 -> 0.85 -> 0.95 meanwhile (Smith and Topin 2018, section 3), unless ``cycle_momentum`` is
    off or the optimizer uses none. Deep residual nets depend on it: at a rate of 0.1 with 0.9 throughout, a 56-layer
    net on digits fails for about one seed in four.
    """

    def along(step: int, total: int, at_start: float, at_end: float) -> float:
        peak, last = spec.warmup * total - 1, total - 1
        if step < peak:
            return _half_cosine(at_start, 1.0, step / peak)
        return _half_cosine(1.0, at_end, (step - peak) / (last - peak))

    def factory(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LRScheduler:
        def rate(step: int) -> float:
            return along(step, total_steps, spec.initial, spec.final)

        if not spec.cycle_momentum:
            return LambdaLR(optimizer, rate)
        return OneCycleLR(optimizer, lambda step: (rate(step), along(step, total_steps, 0.0, 0.0)))

    return factory
