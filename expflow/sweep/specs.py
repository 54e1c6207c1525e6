"""Arguments of searchers and schedulers. No Ray, no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.config.spec import Spec, execution


class Grid(Spec):
    """Every combination of the listed values, in the order of the file."""

    build: ClassVar[str] = "expflow.sweep.searchers:GridSearch"
    name: Literal["grid"] = execution("grid", description="Every combination of the listed values.")


class Random(Spec):
    """Configs drawn at random from the search space."""

    build: ClassVar[str] = "expflow.sweep.searchers:RandomSearch"
    name: Literal["random"] = execution("random", description="Configs drawn at random from the space.")
    trials: int = execution(ge=1, le=100_000, description="Number of configs to draw.")
    seed: int = execution(0, ge=0, description="Seed of the draw: the same seed proposes the same configs.")


class NoScheduler(Spec):
    """Every trial runs to its full budget."""

    name: Literal["none"] = execution("none", description="Every trial runs to its full budget.")
