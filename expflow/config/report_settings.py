"""The section ``report`` of an experiment file: figures, and the comparisons that are tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from expflow.config.spec import FieldError, FrozenModel, execution


class Figure(FrozenModel):
    """One figure of the report: ``y`` against ``x``, a line for each value of ``line``."""

    x: str = execution(description="Searched key on the horizontal axis.")
    y: str = execution(description="Metric on the vertical axis.")
    line: str | None = execution(None, description="Searched key that makes the lines.")


class Contrast(FrozenModel):
    """A claim declared beforehand: how ``metric`` differs between two groups of configs."""

    metric: str = execution(description="The metric that is compared.")
    of: Mapping[str, Any] = execution(description="Searched values of the one side.")
    against: Mapping[str, Any] = execution(description="Searched values of the other side.")
    where: Mapping[str, Any] = execution(default_factory=dict, description="Searched values that both sides share.")
    expect: Literal["higher", "lower", "not_worse"] = execution(
        description="What is expected of `of`, beside `against`."
    )
    margin: float | None = execution(None, gt=0, description="Largest difference that still counts as not worse.")
    by: Mapping[str, tuple[Any, Any]] = execution(
        default_factory=dict,
        description="One searched key and two of its values: the difference of both sides at the second value is "
        "compared with that at the first.",
    )
    tuned_over: tuple[str, ...] = execution(
        (),
        description="Searched keys over which each side is at its own best, which is chosen on the other seeds by the "
        "sweep's metric.",
    )

    @model_validator(mode="after")
    def _keys_have_one_part(self) -> Self:
        if len(self.by) > 1:
            raise FieldError("by", f"one searched key makes a difference of differences, found {len(self.by)}")
        if any(first == second for first, second in self.by.values()):
            raise FieldError("by", "the two values are the same; nothing is compared")
        taken = {*self.of, *self.against, *self.where}
        for part, keys in (("by", tuple(self.by)), ("tuned_over", self.tuned_over)):
            for key in keys:
                if key in taken:
                    raise FieldError(part, f"{key} is fixed by `of`, `against` or `where` already")
                taken.add(key)
        return self

    @model_validator(mode="after")
    def _sides_differ(self) -> Self:
        if self.of == self.against:
            raise FieldError("against", "`of` and `against` are the same values; nothing is compared")
        if self.expect == "not_worse" and self.margin is None:
            raise FieldError(
                "expect", "not_worse needs a margin: the largest difference that still counts as not worse"
            )
        return self


class ReportSettings(FrozenModel):
    """What the report shows."""

    figures: tuple[Figure, ...] = execution(
        (), description="Figures to draw; by default the sweep's metric against each searched key."
    )
    contrasts: tuple[Contrast, ...] = execution((), description="Claims to test.")
