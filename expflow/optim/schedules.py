"""Learning-rate schedules, each a share of the full rate as a function of the optimizer step t of T."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from expflow.optim import ScheduleFactory, specs


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


def one_cycle(spec: specs.OneCycle) -> ScheduleFactory:
    """Two half cosines, initial -> 1 over the warm-up and 1 -> final over the rest, as in torch's ``OneCycleLR``.

    The momentum is left as the optimizer has it: what the recipe says is what is trained with.
    """

    def share(step: int, total: int, per_epoch: int) -> float:
        peak, last = spec.warmup * total - 1, total - 1
        if step <= peak:
            return _half_cosine(spec.initial, 1.0, step / peak)
        return _half_cosine(1.0, spec.final, (step - peak) / (last - peak))

    return _by_share(share)
