"""A trained classifier in whose features made images are compared with real ones. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expflow.config.component_specs import TaskSpec
from expflow.config.identity import dump
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec
from expflow.registry import SLOTS
from expflow.training.transfer.pretrained import PretrainedWeights


@dataclass(frozen=True)
class FeatureNetwork:
    """The network of a finished trial.

    Attributes:
        weights: Its weights.
        model: The network that they are of, one of expflow's.
        data_spec: The data that it was trained on.
    """

    weights: PretrainedWeights
    model: Spec
    data_spec: DataSpec

    @property
    def id(self) -> str:
        """An id of the weights; it enters the id of every trial that is measured with them."""
        return f"features:{self.weights.id}"

    @property
    def facts(self) -> dict[str, Any]:
        """What the ledger's header holds of the network besides its weights."""
        return {"model": dump(self.model), "data": self.data_spec.to_json()}


def recorded_network(weights: PretrainedWeights, facts: Mapping[str, Any]) -> FeatureNetwork:
    """The network that :attr:`FeatureNetwork.facts` were taken from.

    Args:
        weights: Its weights.
        facts: What the ledger's header holds.
    """
    model = SLOTS["model"].spec(facts["model"]["name"]).model_validate(facts["model"])
    return FeatureNetwork(weights, model, DataSpec.from_json(facts["data"]))


def feature_source(task: Any) -> str:
    """The address of the classifier that a task's metrics ask for; "" for none.

    Args:
        task: The recipe's task.
    """
    return str(getattr(task, "features", "")) if isinstance(task, TaskSpec) else ""
