"""Learning-rate schedules, each a share of the full rate as a function of the optimizer step t of T."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from expflow.config.space import metric_mode
from expflow.optim import ScheduleFactory, specs
from expflow.optim.patience import Patience

MOMENTUM_RANGE = (0.95, 0.85)
"""Momentum at the lowest and at the highest rate of one cycle (the defaults of torch's ``OneCycleLR``)."""


Share = Callable[[float, float, float], float]
"""(step, total_steps, steps_per_epoch) -> share of the full rate."""


def _warmed(spec: specs.Schedule, share: Share, *, after: bool) -> ScheduleFactory:
    """A schedule whose rate is ``share`` of the optimizer's own, once its warm-up is over.

    The warm-up is a straight line over its W steps: from + (1 - from) t / W (Goyal et al. 2017, section 2.2). Then
    follows ``share``: of the steps that remain, so that it begins at its beginning (``after``), or of all.
    """

    def factory(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LRScheduler:
        steps = _warmup_steps(spec, steps_per_epoch)
        gone = steps if after else 0

        def rate(step: int) -> float:
            rise = _rise(spec, step, steps)
            return rise * share(max(0, step - gone), max(1, total_steps - gone), steps_per_epoch)

        return LambdaLR(optimizer, rate)

    return factory


def _warmup_steps(spec: specs.Schedule, steps_per_epoch: int) -> int:
    return spec.warmup_steps or round(spec.warmup_epochs * steps_per_epoch)


def _rise(spec: specs.Schedule, step: int, steps: int) -> float:
    """What the warm-up of ``steps`` steps multiplies the rate by."""
    return 1.0 if step >= steps else spec.warmup_from + (1 - spec.warmup_from) * step / steps


def _half_cosine(start: float, end: float, position: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, position))) / 2


def constant(spec: specs.Constant) -> ScheduleFactory:
    """1, always."""
    return _warmed(spec, lambda step, total, per_epoch: 1.0, after=True)


def step(spec: specs.Step) -> ScheduleFactory:
    """factor^floor(epoch / every)."""
    return _warmed(spec, lambda step, total, per_epoch: spec.factor ** (step // per_epoch // spec.every), after=False)


def multi_step(spec: specs.MultiStep) -> ScheduleFactory:
    """factor^(how many of ``at`` the epoch has reached)."""

    def share(step: float, total: float, per_epoch: float) -> float:
        return float(spec.factor ** bisect_right(spec.at, step // per_epoch))

    return _warmed(spec, share, after=False)


def cosine(spec: specs.Cosine) -> ScheduleFactory:
    """final + (1 - final) (1 + cos(pi t / T)) / 2 (Loshchilov and Hutter 2017, equation 5, one period)."""
    return _warmed(spec, lambda step, total, per_epoch: _half_cosine(1.0, spec.final, step / total), after=True)


def polynomial(spec: specs.Polynomial) -> ScheduleFactory:
    """final + (1 - final) (1 - t / T)^power."""

    def share(step: float, total: float, per_epoch: float) -> float:
        return float(spec.final + (1 - spec.final) * max(0.0, 1 - step / total) ** spec.power)

    return _warmed(spec, share, after=True)


def triangular(spec: specs.Triangular) -> ScheduleFactory:
    """low + (1 - low) shrink^(c - 1) max(0, 1 - |x|), of half cycles of s steps (Smith 2017, section 3.2):

    c = floor(1 + t / 2s) is the cycle, and x = t / s - 2c + 1 the place in it, from -1 to 1.
    """

    def share(step: float, total: float, per_epoch: float) -> float:
        half = spec.half_cycle * per_epoch
        cycle = math.floor(1 + step / (2 * half))
        place = abs(step / half - 2 * cycle + 1)
        return spec.low + (1 - spec.low) * spec.shrink ** (cycle - 1) * max(0.0, 1 - place)

    return _warmed(spec, share, after=True)


class PlateauLR(LambdaLR):
    """Multiplies the rate by ``factor`` when the metric it is told of has not improved for ``patience`` values.

    Torch's ``ReduceLROnPlateau`` cannot also move with the steps of a warm-up. Who trains calls :meth:`observe` with
    the value of :attr:`metric` after each validation; a step moves the warm-up alone.
    """

    def __init__(self, optimizer: Optimizer, spec: specs.Plateau, warmup_steps: int) -> None:
        self.metric = spec.metric
        self.scale = 1.0
        self.best: float | None = None
        self.bad = 0
        self._told = (metric_mode(spec.metric, spec.mode), spec.patience, spec.min_delta)
        self._factor, self._final = spec.factor, spec.final
        super().__init__(optimizer, lambda step: self.scale * _rise(spec, step, warmup_steps))

    def observe(self, value: float) -> None:
        """The metric's newest value; the rate changes at once."""
        patience = Patience(*self._told, best=self.best, bad=self.bad)
        if patience.exhausted(value):
            self.scale, patience.bad = max(self._final, self.scale * self._factor), 0
        self.best, self.bad = patience.best, patience.bad
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * self.lr_lambdas[0](self.last_epoch)


def plateau(spec: specs.Plateau) -> ScheduleFactory:
    """The rate falls when ``metric`` stands still, as in torch's ``ReduceLROnPlateau`` with an absolute threshold."""
    return lambda optimizer, total, per_epoch: PlateauLR(optimizer, spec, _warmup_steps(spec, per_epoch))


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

    def state_dict(self) -> dict[str, Any]:
        """All but the position, which is a function and follows from the recipe."""
        return {key: value for key, value in super().state_dict().items() if key != "_position"}


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
