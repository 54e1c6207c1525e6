"""The data sources of a plan's trials: which, under which slot, how many samples, with whose labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from expflow.data.slots import slot_sources
from expflow.sweep.data_preparation import prepared_source
from expflow.sweep.plan import Plan, PlannedTrial


@dataclass(frozen=True)
class PlannedSource:
    """A data source that trials of a plan are trained on.

    Attributes:
        slot: The slot under which it stands (``image``); "" where the task takes one source.
        source: Its name.
        key: Key of these data, which enters the id of every trial on them; "" where they are not prepared here.
        samples: Split -> how many samples of it are used; empty where that is not known.
        labels_from: What the file names as the source of the train split's labels; "" for its own.
        labels_of: The trained classifier that this leads to; "" likewise.
    """

    slot: str
    source: str
    key: str
    samples: Mapping[str, int]
    labels_from: str = ""
    labels_of: str = ""


def planned_sources(plan: Plan, trials: Iterable[PlannedTrial]) -> list[PlannedSource]:
    """The sources of several trials in their order, each once.

    Args:
        plan: The plan that the trials belong to.
        trials: The trials.
    """
    distinct = {(trial.config, trial.data.key): trial for trial in trials if trial.data is not None}
    sources = (source for trial in distinct.values() for source in _sources_of(plan, trial))
    return list({repr(source): source for source in sources}.values())


def _sources_of(plan: Plan, trial: PlannedTrial) -> list[PlannedSource]:
    recipe, data = trial.recipe, trial.data
    if data is None:
        return []
    if slots := slot_sources(recipe):
        parts = {slot: prepared_source(plan, source) for slot, source in slots.items()}
        return [PlannedSource(slot, slots[slot].name, part.key, part.spec.samples) for slot, part in parts.items()]
    labels = getattr(recipe.data, "labels_from", "")
    labels_of = trial.labeller.weights.origin if trial.labeller is not None else ""
    name = str(data.manifest.source.get("name", ""))
    return [PlannedSource("", name, data.key, data.spec.samples, labels, labels_of)]
