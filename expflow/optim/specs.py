"""Arguments of optimizers and learning-rate schedules. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from expflow.config.component_specs import BaseOptimizerSpec, BaseScheduleSpec
from expflow.config.spec import FieldError, check_direction, identity

Scale = Annotated[float, Field(gt=0)]


class OptimizerSpec(BaseOptimizerSpec):
    """Base of the optimizers' specs: what every optimizer takes."""

    lr: float = identity(0.1, description="Learning rate; the peak where the schedule has one.", gt=0)
    weight_decay: float = identity(0.0, description="L2 penalty, added to the gradient.", ge=0)
    decay_norm_and_bias: bool = identity(
        True,
        description="Whether weight_decay also acts on biases and on the scales and shifts of norms: all parameters of"
        " at most one dimension.",
    )
    lr_scale: Mapping[str, Scale] = identity(
        default_factory=dict,
        description="Factors of the learning rate for parts of the network, by dotted module path as `expflow models`"
        " prints them ({stem: 0.1}); the longest path that fits counts. `backbone` is all but the last layer.",
    )

    @property
    def module_rates(self) -> Mapping[str, float]:
        """The key ``lr_scale``."""
        return self.lr_scale


class SGDSpec(OptimizerSpec):
    """Stochastic gradient descent, with momentum where asked for."""

    build: ClassVar[str] = "expflow.optim.optimizers:sgd"

    momentum: float = identity(0.0, description="Share of the last step that is kept.", ge=0, lt=1)
    nesterov: bool = identity(False, description="Look ahead along the momentum (Sutskever et al. 2013).")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise FieldError("nesterov", "nesterov needs momentum above 0; set momentum, 0.9 for example")
        return self


class AdamSpec(OptimizerSpec):
    """Adam (Kingma and Ba 2015); its weight decay is an L2 penalty."""

    build: ClassVar[str] = "expflow.optim.optimizers:adam"

    lr: float = identity(1e-3, description="Learning rate; the peak where the schedule has one.", gt=0)
    beta1: float = identity(0.9, description="Decay of the mean of gradients.", ge=0, lt=1)
    beta2: float = identity(0.999, description="Decay of the mean of squared gradients.", ge=0, lt=1)
    eps: float = identity(1e-8, description="Added to the denominator.", gt=0)


class AdamWSpec(OptimizerSpec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    build: ClassVar[str] = "expflow.optim.optimizers:adamw"

    lr: float = identity(1e-3, description="Learning rate; the peak where the schedule has one.", gt=0)
    beta1: float = identity(0.9, description="Decay of the mean of gradients.", ge=0, lt=1)
    beta2: float = identity(0.999, description="Decay of the mean of squared gradients.", ge=0, lt=1)
    eps: float = identity(1e-8, description="Added to the denominator.", gt=0)
    weight_decay: float = identity(0.01, description="Share of each weight taken away per step, times the rate.", ge=0)


class RMSpropSpec(OptimizerSpec):
    """Gradients divided by the root of their mean square (Hinton 2012, lecture 6e)."""

    build: ClassVar[str] = "expflow.optim.optimizers:rmsprop"

    lr: float = identity(0.01, description="Learning rate; the peak where the schedule has one.", gt=0)
    alpha: float = identity(0.99, description="Decay of the mean of squared gradients.", ge=0, lt=1)
    eps: float = identity(1e-8, description="Added to the denominator.", gt=0)
    momentum: float = identity(0.0, description="Share of the last step that is kept.", ge=0, lt=1)
    centered: bool = identity(False, description="Subtract the square of the mean gradient (Graves 2013).")


class LARSSpec(OptimizerSpec):
    """SGD whose rate is set for each layer by the ratio of weights to gradients (You et al. 2017), for large batches.

    Biases and norms take plain SGD steps unless ``decay_norm_and_bias`` is on.
    """

    build: ClassVar[str] = "expflow.optim.optimizers:lars"

    momentum: float = identity(0.9, description="Share of the last step that is kept.", ge=0, lt=1)
    nesterov: bool = identity(False, description="Look ahead along the momentum (Sutskever et al. 2013).")
    trust: float = identity(1e-3, description="The rate's factor of |w| / (|g| + weight_decay |w|).", gt=0)
    eps: float = identity(1e-8, description="Added to the denominator.", gt=0)
    lr: float = identity(1.0, description="Learning rate; the peak where the schedule has one.", gt=0)
    decay_norm_and_bias: bool = identity(
        False, description="Whether biases and norms are decayed, and their rates adapted, as all others are."
    )

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise FieldError("nesterov", "nesterov needs momentum above 0; set momentum, 0.9 for example")
        return self


class LAMBSpec(OptimizerSpec):
    """Adam whose steps have the length of the layer's weights times the rate (You et al. 2020), for large batches.

    Biases and norms take plain Adam steps unless ``decay_norm_and_bias`` is on.
    """

    build: ClassVar[str] = "expflow.optim.optimizers:lamb"

    lr: float = identity(1e-3, description="Learning rate; the peak where the schedule has one.", gt=0)
    beta1: float = identity(0.9, description="Decay of the mean of gradients.", ge=0, lt=1)
    beta2: float = identity(0.999, description="Decay of the mean of squared gradients.", ge=0, lt=1)
    eps: float = identity(1e-6, description="Added to the denominator.", gt=0)
    weight_decay: float = identity(0.01, description="Share of each weight that is added to Adam's step.", ge=0)
    decay_norm_and_bias: bool = identity(
        False, description="Whether biases and norms are decayed, and their steps scaled, as all others are."
    )


class WarmupScheduleSpec(BaseScheduleSpec):
    """Base of the specs of schedules that begin with a warm-up in a straight line."""

    warmup_epochs: float = identity(0.0, description="Epochs on which the rate rises to its full value.", ge=0)
    warmup_steps: int = identity(0, description="The same in optimizer steps; give one of the two.", ge=0)
    warmup_from: float = identity(
        0.01, description="Rate at the first step of the warm-up, as a share of the full rate.", ge=0, le=1
    )

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if self.warmup_epochs and self.warmup_steps:
            raise FieldError("warmup_steps", "give warmup_epochs or warmup_steps, not both")
        return self


class ConstantSpec(WarmupScheduleSpec):
    """The learning rate stays as it is."""

    build: ClassVar[str] = "expflow.optim.schedules:constant"


class StepSpec(WarmupScheduleSpec):
    """The learning rate is multiplied by ``factor`` every so many epochs, those of a warm-up included."""

    build: ClassVar[str] = "expflow.optim.schedules:step"

    every: int = identity(description="Epochs between two changes.", ge=1)
    factor: float = identity(0.1, description="What the rate is multiplied by.", gt=0, le=1)


class MultiStepSpec(WarmupScheduleSpec):
    """The learning rate is multiplied by ``factor`` at given epochs, those of a warm-up included."""

    build: ClassVar[str] = "expflow.optim.schedules:multi_step"

    at: tuple[Annotated[int, Field(ge=1)], ...] = identity(
        description="Epochs after which the rate changes, [30, 60, 80] for example.", min_length=1
    )
    factor: float = identity(0.1, description="What the rate is multiplied by.", gt=0, le=1)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.at) != sorted(set(self.at)):
            raise FieldError("at", f"expected rising epochs, found {', '.join(map(str, self.at))}")
        return self


class CosineSpec(WarmupScheduleSpec):
    """Half a cosine from the full rate to ``final`` of it (Loshchilov and Hutter 2017, without restarts)."""

    build: ClassVar[str] = "expflow.optim.schedules:cosine"

    final: float = identity(0.0, description="Rate at the end, as a share of the full rate.", ge=0, lt=1)


class PolynomialSpec(WarmupScheduleSpec):
    """A power of what is left of the trial: by default a straight line from the full rate to ``final`` of it."""

    build: ClassVar[str] = "expflow.optim.schedules:polynomial"

    power: float = identity(1.0, description="The exponent; 1 is a straight line.", gt=0)
    final: float = identity(0.0, description="Rate at the end, as a share of the full rate.", ge=0, lt=1)


class OneCycleSpec(BaseScheduleSpec):
    """Up to the full rate and down again within the trial (Smith and Topin 2018)."""

    build: ClassVar[str] = "expflow.optim.schedules:one_cycle"

    warmup: float = identity(0.3, description="Share of the steps on which the rate rises.", gt=0, lt=1)
    initial: float = identity(0.04, description="Rate at the first step, as a share of the full rate.", gt=0, le=1)
    final: float = identity(4e-6, description="Rate at the last step, as a share of the full rate.", gt=0, lt=1)
    cycle_momentum: bool = identity(
        True,
        description="Momentum goes the other way, 0.95 to 0.85 and back, whatever the optimizer says; false keeps its.",
    )


class TriangularSpec(WarmupScheduleSpec):
    """Up and down between two rates, again and again (Smith 2017, "Cyclical learning rates")."""

    build: ClassVar[str] = "expflow.optim.schedules:triangular"

    half_cycle: float = identity(description="Epochs from the lowest rate to the highest.", gt=0)
    low: float = identity(0.1, description="The lowest rate, as a share of the full rate.", ge=0, lt=1)
    shrink: float = identity(
        1.0,
        description="What the height of a cycle is multiplied by for the next: 0.5 is his `triangular2`.",
        gt=0,
        le=1,
    )


class PlateauSpec(WarmupScheduleSpec):
    """The learning rate is multiplied by ``factor`` whenever a metric has not improved for a while."""

    build: ClassVar[str] = "expflow.optim.schedules:plateau"

    metric: str = identity("val/loss", description="What is watched, after every validation.")
    mode: Literal["max", "min"] | None = identity(None, description="Direction of a metric of your own.")

    @property
    def watched_metric(self) -> str:
        """The key ``metric``."""
        return self.metric

    factor: float = identity(0.1, description="What the rate is multiplied by.", gt=0, lt=1)
    patience: int = identity(10, description="Validations without improvement that are put up with.", ge=0)
    min_delta: float = identity(0.0, description="How much better counts as an improvement.", ge=0)
    final: float = identity(0.0, description="The lowest rate, as a share of the full rate.", ge=0, lt=1)

    @model_validator(mode="after")
    def _direction_is_known(self) -> Self:
        check_direction(self.metric, self.mode)
        return self
