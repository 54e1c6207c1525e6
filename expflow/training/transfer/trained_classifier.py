"""A classifier that expflow trained, and that other trials measure or label with. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from expflow.config.component_specs import TaskSpec
from expflow.config.identity import dump
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec
from expflow.data.source_spec import ShardedSourceSpec
from expflow.registry import SLOTS
from expflow.training.transfer.pretrained import PretrainedWeights


@dataclass(frozen=True)
class TrainedOn:
    """Which images a classifier has learned from, as far as that can be compared with other data.

    Attributes:
        content: The manifest's digest of all splits; "" where it is not known.
        source: The manifest's description of the source.
        origin: Where the source's files lie; "" where it brings its own.
        fit_on: ``train``, or ``train+val``.
    """

    content: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    fit_on: str = "train"


@dataclass(frozen=True)
class TrainedClassifier:
    """The network of a finished trial.

    Attributes:
        weights: Its weights.
        model: The network that they are of, one of expflow's.
        data_spec: The data that it was trained on.
        trained_on: Which images these were.
    """

    weights: PretrainedWeights
    model: Spec
    data_spec: DataSpec
    trained_on: TrainedOn = field(default_factory=TrainedOn)

    @property
    def id(self) -> str:
        """An id of the weights; it enters the id of every trial that is measured with them."""
        return f"features:{self.weights.id}"

    @property
    def facts(self) -> dict[str, Any]:
        """What the ledger's header holds of the network besides its weights."""
        facts = {"model": dump(self.model), "data": self.data_spec.to_json()}
        return facts | ({"trained_on": vars(self.trained_on)} if self.trained_on.content else {})


def recorded_classifier(weights: PretrainedWeights, facts: Mapping[str, Any]) -> TrainedClassifier:
    """The network that :attr:`TrainedClassifier.facts` were taken from.

    Args:
        weights: Its weights.
        facts: What the ledger's header holds.
    """
    model = SLOTS["model"].spec(facts["model"]["name"]).model_validate(facts["model"])
    trained_on = TrainedOn(**facts.get("trained_on", {}))
    return TrainedClassifier(weights, model, DataSpec.from_json(facts["data"]), trained_on)


def feature_source(task: Any) -> str:
    """The address of the classifier that a task's metrics ask for; "" for none.

    Args:
        task: The recipe's task.
    """
    return str(getattr(task, "features", "")) if isinstance(task, TaskSpec) else ""


def label_source(data: Any) -> str:
    """The address of the classifier whose classes are the labels of the train split; "" for the true labels.

    Args:
        data: The recipe's data.
    """
    return data.labels_from if isinstance(data, ShardedSourceSpec) else ""
