"""Learning-rate schedules, each a share of the full rate as a function of the optimizer step t of T."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from expflow.metrics import metric_mode
from expflow.optim import ScheduleFactory
from expflow.optim.patience import Patience
from expflow.optim.specs import (
    ConstantSpec,
    CosineSpec,
    MultiStepSpec,
    OneCycleSpec,
    PlateauSpec,
    PolynomialSpec,
    StepSpec,
    TriangularSpec,
    WarmupScheduleSpec,
)

MOMENTUM_RANGE = (0.95, 0.85)
"""Momentum at the lowest and at the highest rate of one cycle (the defaults of torch's ``OneCycleLR``)."""


Share = Callable[[float, float, float], float]
"""(step, total_steps, steps_per_epoch) -> share of the full rate."""


def _warmed(spec: WarmupScheduleSpec, share: Share, *, after: bool) -> ScheduleFactory:
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


def _warmup_steps(spec: WarmupScheduleSpec, steps_per_epoch: int) -> int:
    return spec.warmup_steps or round(spec.warmup_epochs * steps_per_epoch)


def _rise(spec: WarmupScheduleSpec, step: int, steps: int) -> float:
    """The factor of the rate in a warm-up of ``steps`` steps."""
    return 1.0 if step >= steps else spec.warmup_from + (1 - spec.warmup_from) * step / steps


def _half_cosine(start: float, end: float, position: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, position))) / 2


def constant(spec: ConstantSpec) -> ScheduleFactory:
    """The share is 1 at every step.

    Args:
        spec: What the user chose.
    """
    return _warmed(spec, lambda step, total, per_epoch: 1.0, after=True)


def step(spec: StepSpec) -> ScheduleFactory:
    """The share is factor^floor(epoch / every).

    Args:
        spec: What the user chose.
    """
    return _warmed(spec, lambda step, total, per_epoch: spec.factor ** (step // per_epoch // spec.every), after=False)


def multi_step(spec: MultiStepSpec) -> ScheduleFactory:
    """The share is factor^(how many of ``at`` the epoch has reached).

    Args:
        spec: What the user chose.
    """

    def share(step: float, total: float, per_epoch: float) -> float:
        return float(spec.factor ** bisect_right(spec.at, step // per_epoch))

    return _warmed(spec, share, after=False)


def cosine(spec: CosineSpec) -> ScheduleFactory:
    """The share is final + (1 - final) (1 + cos(pi t / T)) / 2.

    Args:
        spec: What the user chose.

    Source:
        Loshchilov and Hutter 2017, "SGDR", equation 5, one period.
    """
    return _warmed(spec, lambda step, total, per_epoch: _half_cosine(1.0, spec.final, step / total), after=True)


def polynomial(spec: PolynomialSpec) -> ScheduleFactory:
    """The share is final + (1 - final) (1 - t / T)^power.

    Args:
        spec: What the user chose.
    """

    def share(step: float, total: float, per_epoch: float) -> float:
        return float(spec.final + (1 - spec.final) * max(0.0, 1 - step / total) ** spec.power)

    return _warmed(spec, share, after=True)


def triangular(spec: TriangularSpec) -> ScheduleFactory:
    """The share is low + (1 - low) shrink^(c - 1) max(0, 1 - |x|), in half cycles of s steps.

    c = floor(1 + t / 2s) is the cycle, and x = t / s - 2c + 1 the place in it, from -1 to 1.

    Args:
        spec: What the user chose.

    Source:
        Smith 2017, "Cyclical Learning Rates", section 3.2.
    """

    def share(step: float, total: float, per_epoch: float) -> float:
        half = spec.half_cycle * per_epoch
        cycle = math.floor(1 + step / (2 * half))
        place = abs(step / half - 2 * cycle + 1)
        return spec.low + (1 - spec.low) * spec.shrink ** (cycle - 1) * max(0.0, 1 - place)

    return _warmed(spec, share, after=True)


class PlateauLR(LambdaLR):
    """Multiplies the rate by ``factor`` when its metric has not improved for ``patience`` values.

    Torch's ``ReduceLROnPlateau`` cannot also move with the steps of a warm-up. Who trains calls :meth:`observe` with
    the value of :attr:`metric` after each validation; a step moves the warm-up alone.

    Args:
        optimizer: The optimizer whose rates change.
        spec: Metric, factor, patience and warm-up.
        warmup_steps: Optimizer steps on which the rate rises.
    """

    def __init__(self, optimizer: Optimizer, spec: PlateauSpec, warmup_steps: int) -> None:
        self.metric = spec.metric
        self.scale = 1.0
        self.best: float | None = None
        self.bad = 0
        self._patience = (metric_mode(spec.metric, spec.mode), spec.patience, spec.min_delta)
        self._factor, self._final = spec.factor, spec.final
        super().__init__(optimizer, lambda step: self.scale * _rise(spec, step, warmup_steps))

    def observe(self, value: float) -> None:
        """Takes in the metric's newest value; the rate changes at once.

        Args:
            value: The value of :attr:`metric`.
        """
        patience = Patience(*self._patience, best=self.best, bad=self.bad)
        if patience.exhausted(value):
            self.scale, patience.bad = max(self._final, self.scale * self._factor), 0
        self.best, self.bad = patience.best, patience.bad
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * self.lr_lambdas[0](self.last_epoch)


def plateau(spec: PlateauSpec) -> ScheduleFactory:
    """The rate falls when ``metric`` stops improving, as in torch's ``ReduceLROnPlateau`` with an absolute threshold.

    Args:
        spec: What the user chose.
    """
    return lambda optimizer, total, per_epoch: PlateauLR(optimizer, spec, _warmup_steps(spec, per_epoch))


class OneCycleLR(LambdaLR):
    """Moves rate and momentum at each step, as torch's ``OneCycleLR`` does.

    Args:
        optimizer: The optimizer whose rates and momenta change.
        position: Step -> (share of the full rate, share of the way from the highest momentum to the lowest).
    """

    def __init__(self, optimizer: Optimizer, position: Callable[[int], tuple[float, float]]) -> None:
        self._position = position
        super().__init__(optimizer, lambda step: position(step)[0])

    def get_lr(self) -> list[float | Tensor]:
        """The rates of this step; also sets the momentum of this step, as torch's own schedule does."""
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


def one_cycle(spec: OneCycleSpec) -> ScheduleFactory:
    """Two half cosines, initial -> 1 over the warm-up and 1 -> final over the rest, as in torch's ``OneCycleLR``.

    The momentum goes 0.95 -> 0.85 -> 0.95 meanwhile, unless ``cycle_momentum`` is off or the optimizer uses none. Deep
    residual nets depend on it: at a rate of 0.1 with 0.9 throughout, a 56-layer net on digits fails for about one seed
    in four.

    Args:
        spec: What the user chose.

    Source:
        Smith and Topin 2018, "Super-Convergence", section 3.
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
