"""Arguments of optimizers and learning-rate schedules. Torch-free."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from expflow.config.spec import FieldError, Spec, identity


class SGD(Spec):
    """Stochastic gradient descent, with momentum where asked for."""

    build: ClassVar[str] = "expflow.optim.optimizers:sgd"

    lr: float = identity(0.1, description="Learning rate; the peak where the schedule has one.", gt=0)
    momentum: float = identity(0.0, description="Share of the last step that is kept.", ge=0, lt=1)
    nesterov: bool = identity(False, description="Look ahead along the momentum (Sutskever et al. 2013).")
    weight_decay: float = identity(0.0, description="L2 penalty, added to the gradient.", ge=0)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise FieldError("nesterov", "nesterov needs momentum above 0; set momentum, 0.9 for example")
        return self


class Adam(Spec):
    """Adam (Kingma and Ba 2015); its weight decay is an L2 penalty."""

    build: ClassVar[str] = "expflow.optim.optimizers:adam"

    lr: float = identity(1e-3, description="Learning rate; the peak where the schedule has one.", gt=0)
    beta1: float = identity(0.9, description="Decay of the mean of gradients.", ge=0, lt=1)
    beta2: float = identity(0.999, description="Decay of the mean of squared gradients.", ge=0, lt=1)
    eps: float = identity(1e-8, description="Added to the denominator.", gt=0)
    weight_decay: float = identity(0.0, description="L2 penalty, added to the gradient.", ge=0)


class AdamW(Spec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    build: ClassVar[str] = "expflow.optim.optimizers:adamw"

    lr: float = identity(1e-3, description="Learning rate; the peak where the schedule has one.", gt=0)
    beta1: float = identity(0.9, description="Decay of the mean of gradients.", ge=0, lt=1)
    beta2: float = identity(0.999, description="Decay of the mean of squared gradients.", ge=0, lt=1)
    eps: float = identity(1e-8, description="Added to the denominator.", gt=0)
    weight_decay: float = identity(0.01, description="Share of each weight taken away per step, times the rate.", ge=0)


class Constant(Spec):
    """The learning rate stays as it is."""

    build: ClassVar[str] = "expflow.optim.schedules:constant"


class Step(Spec):
    """The learning rate is multiplied by ``factor`` every so many epochs."""

    build: ClassVar[str] = "expflow.optim.schedules:step"

    every: int = identity(description="Epochs between two changes.", ge=1)
    factor: float = identity(0.1, description="What the rate is multiplied by.", gt=0, le=1)


class Cosine(Spec):
    """Half a cosine from the full rate to ``final`` of it (Loshchilov and Hutter 2017, without restarts)."""

    build: ClassVar[str] = "expflow.optim.schedules:cosine"

    final: float = identity(0.0, description="Rate at the end, as a share of the full rate.", ge=0, lt=1)


class OneCycle(Spec):
    """Up to the full rate and down again within the trial (Smith and Topin 2018)."""

    build: ClassVar[str] = "expflow.optim.schedules:one_cycle"

    warmup: float = identity(0.3, description="Share of the steps on which the rate rises.", gt=0, lt=1)
    initial: float = identity(0.04, description="Rate at the first step, as a share of the full rate.", gt=0, le=1)
    final: float = identity(4e-6, description="Rate at the last step, as a share of the full rate.", gt=0, lt=1)
    cycle_momentum: bool = identity(
        True,
        description="Momentum goes the other way, 0.95 to 0.85 and back, whatever the optimizer says; false keeps its.",
    )
