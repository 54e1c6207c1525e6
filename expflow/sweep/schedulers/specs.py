"""Arguments of the schedulers. No Ray, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from expflow.config.component_specs import SchedulerSpec, TimeUnit
from expflow.config.spec import FieldError, execution

PERTURBED = ("optimizer", "loss", "task")
"""Slots whose arguments may change while a trial runs: neither the weights' shapes nor the schedule's length hang on
them. (A changed `optimizer.lr` scales the schedule's base rate.)"""


class NoSchedulerSpec(SchedulerSpec):
    """Every trial runs to its full budget."""

    name: Literal["none"] = execution("none", description="Every trial runs to its full budget.")


class TimedSchedulerSpec(SchedulerSpec):
    """What all schedulers have in common."""

    single: ClassVar[bool] = True
    """Whether it judges trials one by one, so that the seeds of a config would meet different fates."""

    unit: TimeUnit = execution("epoch", description="What time is counted in: epochs, or optimizer steps.")

    @property
    def time_unit(self) -> TimeUnit:
        """What the key ``unit`` says."""
        return self.unit

    def conflicts(self, space: tuple[str, ...], seeds: int) -> Iterator[tuple[str, str]]:
        """Several seeds of a config do not go with a scheduler that judges trials one by one."""
        if self.single and seeds > 1:
            yield (
                "name",
                f"{self.name} judges single trials, and would stop some seeds of a config and not others; with several "
                "seeds use successive_halving or hyperband, or spend seeds on the leaders alone: "
                "seeds: {screen: 1, confirm: 5, top: 4}",
            )


class HalvingSpec(TimedSchedulerSpec):
    """Arguments of the halving family: rungs at min, min * reduction, … below max."""

    min: int = execution(1, ge=1, description="Time that every trial gets before it can be stopped (the first rung).")
    max: int | None = execution(None, ge=2, description="Full budget; by default the trainer's epochs.")
    reduction: float = execution(3.0, gt=1, le=100, description="One in so many goes on from a rung to the next.")

    @property
    def max_time(self) -> int | None:
        """What the key ``max`` says."""
        return self.max

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.max <= self.min:
            raise FieldError("max", f"must be above min ({self.min})")
        if self.unit == "step" and self.max is None:
            raise FieldError("unit", "steps need `max`, the number of steps of a full trial")
        return self


class ASHASpec(HalvingSpec):
    """Asynchronous successive halving (Li et al. 2020), Ray Tune's: a trial below the cutoff of its rung is stopped."""

    build: ClassVar[str] = "expflow.sweep.schedulers.ray_tune:asha"
    name: Literal["asha"] = execution("asha", description="Asynchronous successive halving, Ray Tune's.")


class MedianSpec(TimedSchedulerSpec):
    """Median stopping rule (Golovin et al. 2017), Ray Tune's: a trial whose best is below the others' median stops."""

    build: ClassVar[str] = "expflow.sweep.schedulers.ray_tune:median"
    name: Literal["median"] = execution("median", description="Median stopping rule, Ray Tune's.")
    grace: int = execution(1, ge=0, description="Time before a trial can be stopped.")
    min_trials: int = execution(3, ge=1, description="Other trials that must have got as far before one is stopped.")


class SuccessiveHalvingSpec(HalvingSpec):
    """Successive halving (Jamieson and Talwalkar 2016) over configs: all wait at a rung, the best go on.

    A config is judged by the mean over its seeds, and all of its seeds share its fate.
    """

    build: ClassVar[str] = "expflow.sweep.schedulers.halving:successive_halving"
    single: ClassVar[bool] = False
    name: Literal["successive_halving"] = execution(
        "successive_halving", description="Synchronous halving over configs, by the mean over seeds."
    )


class HyperbandSpec(HalvingSpec):
    """Hyperband (Li et al. 2018): brackets of successive halving that trade many short trials for few long ones."""

    build: ClassVar[str] = "expflow.sweep.schedulers.halving:hyperband"
    single: ClassVar[bool] = False
    name: Literal["hyperband"] = execution("hyperband", description="Brackets of successive halving over configs.")


class PBTSpec(TimedSchedulerSpec):
    """Population based training (Jaderberg et al. 2017): the worst take over weights and config of the best, changed.

    All members wait for each other at every interval, so that what happens depends on no order of events.
    """

    build: ClassVar[str] = "expflow.sweep.schedulers.population:PopulationBasedTraining"
    name: Literal["pbt"] = execution("pbt", description="Population based training; every config is a member.")
    interval: int = execution(1, ge=1, description="Time between two comparisons of the members.")
    quantile: float = execution(0.25, gt=0, le=0.5, description="Share of members that are replaced, and copied.")
    resample: float = execution(0.25, ge=0, le=1, description="Chance that a key is drawn anew and not changed a bit.")
    factor: float = execution(1.2, gt=1, description="A number is multiplied or divided by this.")
    perturb: tuple[str, ...] = execution(
        (), description="Searched keys that change; by default all that may change while a trial runs."
    )
    seed: int = execution(0, ge=0, description="Seed of the changes.")

    def conflicts(self, space: tuple[str, ...], seeds: int) -> Iterator[tuple[str, str]]:
        """Also: keys that cannot be changed while a trial runs."""
        yield from super().conflicts(space, seeds)
        for key in self.perturb:
            if key not in space:
                yield "perturb", f"{key} is not searched; searched are {', '.join(space) or 'no keys'}"
            elif reason := unsafe(key):
                yield "perturb", f"{key} cannot change while a trial runs: {reason}"
        if not any(self.changing(space)):
            yield "name", f"nothing can change: searched are {', '.join(space) or 'no keys'}, of which none is safe"

    def changing(self, space: tuple[str, ...]) -> tuple[str, ...]:
        """The keys that forks change.

        Args:
            space: The searched keys.
        """
        return self.perturb or tuple(key for key in space if not unsafe(key))


def unsafe(key: str) -> str:
    """Why a key of a running trial must not change; empty where it may.

    Args:
        key: Dotted key of the recipe.
    """
    slot, _, rest = key.partition(".")
    if slot == "model":
        return "the donor's weights would not fit another network"
    if slot in ("schedule", "trainer") or key == "data.batch_size":
        return "the schedule was laid out for the whole length of training, and would jump"
    if slot == "data":
        return "a trial belongs to its data"
    if not rest or rest.split(".")[-1] == "name":
        return "the donor's state would not fit another component"
    return "" if slot in PERTURBED else "only arguments of optimizer, loss and task may"
