"""Arguments of the searchers of architectures. No numpy, no torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from expflow.config.component_specs import SearcherSpec
from expflow.config.spec import FieldError, execution

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


class ParentSearcherSpec(ChoiceSearcherSpec):
    """A searcher whose configs come from others; no component by itself."""

    inherit: bool = execution(
        False,
        description="Whether a config begins with the weights of the one that it was made from, where names and shapes"
        " fit, instead of weights as they are drawn.",
    )


class EvolutionSpec(ParentSearcherSpec):
    """Regularised (aging) evolution (Real et al. 2019): mutates the best of a sample; the oldest dies."""

    build: ClassVar[str] = "expflow.search.evolution:EvolutionSearch"
    name: Literal["evolution"] = execution("evolution", description="Regularised evolution.")
    population: int = execution(20, ge=2, le=10_000, description="Configs alive; as many are drawn at random first.")
    sample: int = execution(5, ge=1, le=10_000, description="Configs of which the best becomes a parent.")
    crossover: float = execution(
        0.0, ge=0, le=1, description="Probability that a config has two parents before it is mutated."
    )


class LocalSpec(ParentSearcherSpec):
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


SEARCH, RANDOM_SEARCH, RANDOM_CHILDREN, BY_HAND = "search", "random search", "random children", "by hand"
ARMS = (SEARCH, RANDOM_SEARCH, RANDOM_CHILDREN, BY_HAND)
"""The arms of a proof, in the order in which they are shown."""

ENOUGH_SEARCHES = 5
"""Searches below which nothing is said of a searcher."""


class ArmsSpec(SearcherSpec):
    """What searches chose, retrained beside what they have to beat; see docs/search.md."""

    build: ClassVar[str] = "expflow.search.arms:ArmSearch"
    name: Literal["arms"] = execution("arms", description="The proof of a search: its child beside other arms.")
    search: str | tuple[str, ...] = execution(
        min_length=1,
        description="Results of the search, or of several that differ in their searcher's seed. What each selects is"
        " retrained.",
    )
    random_search: str | tuple[str, ...] = execution(
        (), description="Results of as many random searches of equal cost (searcher random), selected by the same rule."
    )
    random_children: int = execution(
        20,
        ge=0,
        le=1000,
        description="Children of the first random search, drawn whatever they gave: the average of the space.",
    )
    by_hand: dict[str, Any] = execution(
        default_factory=dict, description="Recipe keys and values of a net that was made by hand."
    )
    seed: int = execution(0, ge=0, lt=2**32, description="Seed of the draw of random children.")

    @model_validator(mode="after")
    def _children_come_from_a_random_search(self) -> Self:
        if self.random_children and not self.random_searches:
            raise FieldError(
                "random_children", "they are drawn from a random search: name one in random_search, or say 0"
            )
        names = [*self.searches, *self.random_searches]
        if len(set(names)) < len(names):
            raise FieldError("search", "the same results are named twice")
        return self

    @property
    def searches(self) -> tuple[str, ...]:
        """The key ``search`` as a list."""
        return (self.search,) if isinstance(self.search, str) else self.search

    @property
    def random_searches(self) -> tuple[str, ...]:
        """The key ``random_search`` as a list."""
        return (self.random_search,) if isinstance(self.random_search, str) else self.random_search

    @property
    def listed_configs(self) -> tuple[dict[str, Any], ...]:
        """What the file itself lists: the net that was made by hand."""
        return (self.by_hand,) if self.by_hand else ()


class ResolvedArmsSpec(ArmsSpec):
    """The arms with the children that they led to; no component of a file.

    Attributes:
        children: ``arm``, ``source``, ``values`` and ``score`` of each child.
        sources: What is known of each search, by the name of its results.
    """

    children: tuple[dict[str, Any], ...] = execution((), description="The children.")
    sources: dict[str, Any] = execution(default_factory=dict, description="The searches.")
