"""Arguments of the searchers. No Ray, no torch, no Optuna."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, field_validator, model_validator

from expflow.config.component_specs import SearcherSpec
from expflow.config.spec import FieldError, FrozenModel, execution
from expflow.errors import nearest

MAX_TRIALS = 100_000

SAMPLERS: dict[str, str] = {
    "tpe": "TPESampler",
    "cmaes": "CmaEsSampler",
    "gp": "GPSampler",
    "qmc": "QMCSampler",
    "nsga2": "NSGAIISampler",
    "random": "RandomSampler",
}
"""Our name of a sampler -> its class in ``optuna.samplers``."""

_OURS = ("seed", "n_startup_trials", "independent_sampler", "warn_independent_sampling", "source_trials")
"""Arguments of samplers that other keys decide, or that are no plain data."""


class GridSpec(SearcherSpec):
    """Every combination of the listed values, in the order of the file."""

    build: ClassVar[str] = "expflow.sweep.searchers.model_free:GridSearch"
    name: Literal["grid"] = execution("grid", description="Every combination of the listed values.")


class PointsSpec(SearcherSpec):
    """Configs that the file lists one by one, instead of a space."""

    build: ClassVar[str] = "expflow.sweep.searchers.model_free:PointSearch"
    name: Literal["points"] = execution("points", description="The configs that are listed.")
    points: tuple[dict[str, Any], ...] = execution(
        min_length=1, max_length=10_000, description="The configs: each a mapping of recipe keys to values."
    )

    @property
    def listed_configs(self) -> tuple[dict[str, Any], ...]:
        """The configs, as the file lists them."""
        return self.points


class RandomSpec(SearcherSpec):
    """Configs drawn at random from the search space."""

    build: ClassVar[str] = "expflow.sweep.searchers.model_free:RandomSearch"
    name: Literal["random"] = execution("random", description="Configs drawn at random from the space.")
    trials: int = execution(ge=1, le=MAX_TRIALS, description="Number of configs to draw.")
    seed: int = execution(0, ge=0, description="Seed of the draw: the same seed proposes the same configs.")

    @property
    def max_configs(self) -> int:
        """As many as are drawn."""
        return self.trials


class WarmStart(FrozenModel):
    """An earlier sweep whose results a searcher gets before it proposes."""

    model_config = ConfigDict(populate_by_name=True)  # `from` is no name in Python; dumped by name, it reads back

    source: str = execution(alias="from", description="Name of the earlier sweep, in the same storage.")


class SamplerSpec(SearcherSpec):
    """What the searchers that learn from results have in common: each proposes with one of Optuna's samplers."""

    build: ClassVar[str] = "expflow.sweep.searchers.optuna_search:OptunaSearch"
    learns: ClassVar[bool] = True
    needs_space: ClassVar[bool] = True

    trials: int = execution(ge=1, le=MAX_TRIALS, description="Number of configs to propose.")
    seed: int = execution(0, ge=0, lt=2**32, description="Seed of the sampler.")
    options: dict[str, Any] = execution(
        default_factory=dict, description="Further arguments of Optuna's sampler, by their names there."
    )
    warm_start: WarmStart | None = execution(None, description="An earlier sweep to learn from first.")

    @property
    def max_configs(self) -> int:
        """As many as are to be proposed."""
        return self.trials

    @property
    def earlier_sweep(self) -> str | None:
        """The sweep that the key ``warm_start`` names."""
        return self.warm_start.source if self.warm_start is not None else None

    @property
    def sampler_name(self) -> str:
        """A key of :data:`SAMPLERS`."""
        raise NotImplementedError

    @property
    def sampler_arguments(self) -> dict[str, Any]:
        """Arguments of the sampler that keys of their own stand for."""
        return {}

    @field_validator("options")
    @classmethod
    def _plain(cls, options: dict[str, Any]) -> dict[str, Any]:
        for key, value in options.items():
            if isinstance(value, Mapping | list):
                raise ValueError(f"{key}: only numbers, text and true or false can be passed to a sampler")
        return options

    @model_validator(mode="after")
    def _known_options(self) -> Self:
        if self.options:  # Optuna costs 0.1 s to import, and is asked only where it is passed something
            known = sampler_arguments(self.sampler_name)
            for key in self.options:
                if key not in known:
                    close = nearest(key, known)
                    hint = f"nearest: {close}" if close else f"it takes {', '.join(known)}"
                    raise FieldError("options", f"{SAMPLERS[self.sampler_name]} has no argument {key!r}; {hint}")
        return self


def sampler_arguments(name: str) -> list[str]:
    """The arguments of a sampler that ``options`` may set.

    Args:
        name: A key of :data:`SAMPLERS`.
    """
    import optuna.samplers

    signature = inspect.signature(getattr(optuna.samplers, SAMPLERS[name]))
    return [argument for argument in signature.parameters if argument not in _OURS]


class StartupSpec(SamplerSpec):
    """What samplers have in common that begin with independent draws."""

    startup: int | None = execution(
        None,
        ge=1,
        description="Configs drawn at random before it begins to learn; by default the sampler's own number.",
    )

    @property
    def sampler_arguments(self) -> dict[str, Any]:
        """The number of draws, where the file gives one."""
        return {"n_startup_trials": self.startup} if self.startup is not None else {}


class TPESpec(StartupSpec):
    """Tree-structured Parzen estimator (Bergstra et al. 2011): proposes where good configs are dense, bad ones rare."""

    name: Literal["tpe"] = execution("tpe", description="Tree-structured Parzen estimator, Optuna's.")

    @property
    def sampler_name(self) -> str:
        """Always ``tpe``."""
        return "tpe"


class OptunaSpec(StartupSpec):
    """One of Optuna's samplers by name."""

    name: Literal["optuna"] = execution("optuna", description="One of Optuna's samplers.")
    sampler: Literal["tpe", "cmaes", "gp", "qmc", "nsga2", "random"] = execution(
        description="The sampler: tpe, cmaes (CMA-ES), gp (Gaussian process), qmc (Sobol or Halton), nsga2, random."
    )

    @property
    def sampler_name(self) -> str:
        """The sampler that the file names."""
        return self.sampler


class NSGA2Spec(SamplerSpec):
    """NSGA-II (Deb et al. 2002), Optuna's: a genetic algorithm for several objectives, which keeps the Pareto front."""

    build: ClassVar[str] = "expflow.sweep.searchers.pareto_search:ParetoSearch"
    several_objectives: ClassVar[bool] = True
    name: Literal["nsga2"] = execution("nsga2", description="NSGA-II, for several objectives.")
    population: int = execution(
        20, ge=2, le=10_000, description="Configs of a generation; the first generation is drawn at random."
    )

    @property
    def sampler_name(self) -> str:
        """Always ``nsga2``."""
        return "nsga2"

    @property
    def sampler_arguments(self) -> dict[str, Any]:
        """The size of a generation."""
        return {"population_size": self.population}
