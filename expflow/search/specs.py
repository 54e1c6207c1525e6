"""Arguments of the searchers of architectures. No numpy, no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.config.component_specs import SearcherSpec
from expflow.config.spec import execution

MAX_TRIALS = 100_000


class ChoiceSearcherSpec(SearcherSpec):
    """What the searchers among listed values have in common; no component by itself."""

    learns: ClassVar[bool] = True
    needs_space: ClassVar[bool] = True
    needs_listed_values: ClassVar[bool] = True

    trials: int = execution(ge=1, le=MAX_TRIALS, description="Number of configs to propose.")
    seed: int = execution(0, ge=0, lt=2**32, description="Seed of all that it draws.")

    @property
    def max_configs(self) -> int:
        """As many as are to be proposed."""
        return self.trials


class ControllerSpec(ChoiceSearcherSpec):
    """A recurrent network writes configs, and learns from their rewards by policy gradient (Zoph and Le 2017)."""

    build: ClassVar[str] = "expflow.search.controller:ControllerSearch"
    name: Literal["controller"] = execution("controller", description="Controller network, trained by REINFORCE.")
    batch: int = execution(8, ge=1, le=10_000, description="Configs between two steps of the controller.")
    lr: float = execution(0.02, gt=0, description="Learning rate of the controller (Adam).")
    baseline: float = execution(
        0.8, ge=0, lt=1, description="Decay, by batch, of the moving average that rewards are compared with."
    )
    entropy: float = execution(0.02, ge=0, description="Weight of the entropy term, which keeps the controller trying.")
    hidden: int = execution(32, ge=1, le=1024, description="Units of the recurrent network.")


class EvolutionSpec(ChoiceSearcherSpec):
    """Regularised (aging) evolution (Real et al. 2019): mutates the best of a sample; the oldest dies."""

    build: ClassVar[str] = "expflow.search.evolution:EvolutionSearch"
    name: Literal["evolution"] = execution("evolution", description="Regularised evolution.")
    population: int = execution(20, ge=2, le=10_000, description="Configs alive; as many are drawn at random first.")
    sample: int = execution(5, ge=1, le=10_000, description="Configs of which the best becomes a parent.")
    crossover: float = execution(
        0.0, ge=0, le=1, description="Probability that a config has two parents before it is mutated."
    )


class LocalSpec(ChoiceSearcherSpec):
    """Local search (White et al. 2021): tries the neighbours of a config, and goes on from the first better one."""

    build: ClassVar[str] = "expflow.search.local_search:LocalSearch"
    name: Literal["local"] = execution("local", description="Hill climbing with restarts.")
    startup: int = execution(10, ge=1, le=10_000, description="Random configs of which the best is where it begins.")


class PredictorSpec(ChoiceSearcherSpec):
    """An ensemble of networks predicts rewards from path encodings, and says what to train next (White et al. 2021)."""

    build: ClassVar[str] = "expflow.search.predictor:PredictorSearch"
    name: Literal["predictor"] = execution("predictor", description="Ensemble of predictors, as in BANANAS.")
    startup: int = execution(20, ge=2, le=10_000, description="Random configs before the first prediction.")
    ensemble: int = execution(5, ge=1, le=100, description="Networks in the ensemble.")
    candidates: int = execution(100, ge=1, le=10_000, description="Mutations that are compared for each proposal.")
    parents: int = execution(10, ge=1, le=1000, description="Best configs that are mutated.")
    refit: int = execution(10, ge=1, le=10_000, description="Results between two trainings of the ensemble.")
