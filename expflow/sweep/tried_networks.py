"""Which networks of a plan were tried before: what tells one from another, and the cache that remembers it.

Networks that differ in real numbers alone, a rate for example, count as one. What went well is kept under a key of the
recipe, the data, the user's code and the versions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from expflow.config.component_specs import MODULE_RUNNERS
from expflow.config.schema import Recipe
from expflow.config.spec import PassthroughSpec, UserComponent, role_of
from expflow.data.slots import leading_source
from expflow.files import write_atomically
from expflow.sweep.code_hashes import user_modules
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.plan_identity import digest, own_data_key
from expflow.sweep.provenance import package_versions
from expflow.sweep.trial_ranks import ranks_of
from expflow.training.contract import BATCH_SAMPLES, BatchCheck, runner_of

CHECKS_FOLDER = "checks"
"""Folder in the cache with a file for each network that was tried: the metrics that it reported."""


class TriedNetworks:
    """The networks of one plan.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._folder = plan, Path(plan.site.cache) / CHECKS_FOLDER
        ranks = plan.loaded.experiment.resources.ranks
        self._around = digest([package_versions(), user_modules(plan.loaded), ranks])

    def key(self, trial: PlannedTrial, recipe: Recipe) -> str:
        """What is the same for trials whose batches need to be tried once.

        Args:
            trial: A trial.
            recipe: Its recipe, which is made anew each time that a trial is asked for it.
        """
        data = trial.data.manifest.content if trial.data is not None else own_data_key(recipe)
        weights = "+".join(taken.id for taken in (trial.weights, trial.features, trial.labeller) if taken is not None)
        if recipe.init is not None and recipe.init.parent:  # whose weights they are makes no other network
            recipe = recipe.model_copy(update={"init": None})
        rules = self._plan.loaded.experiment.resources
        ranks = [ranks_of(rules, trial.values)] if rules.by_config else []
        return digest([self._around, _facts(recipe), data, weights, *ranks])

    def known_metrics(self, key: str) -> tuple[str, ...] | None:
        """The metrics that a network reported when it was tried before; None where it was not.

        Args:
            key: Its key.
        """
        try:
            metrics = json.loads((self._folder / f"{key}.json").read_bytes())["metrics"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return tuple(map(str, metrics)) if isinstance(metrics, list) else None

    def remember(self, key: str, metrics: Iterable[str]) -> None:
        """Keep that a network was tried, and nothing is wrong with it.

        Args:
            key: Its key.
            metrics: The metrics that it reported.
        """
        with suppress(OSError):  # a cache that cannot be written costs time and nothing else
            content = json.dumps({"metrics": list(metrics)})
            write_atomically(self._folder / f"{key}.json", content.encode())


def _facts(value: Any) -> Any:
    """What a recipe compares, as plain data in which all real numbers are alike."""
    if isinstance(value, BaseModel):
        cls = type(value)
        names = [name for name in cls.model_fields if name == "name" or role_of(cls, name) == "identity"]
        own = value.arguments if isinstance(value, PassthroughSpec) else {}
        return {name: _facts(part) for name, part in (*((name, getattr(value, name)) for name in names), *own.items())}
    if isinstance(value, Mapping):
        return {str(key): _facts(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_facts(part) for part in value]
    return "number" if isinstance(value, float) else value


def can_be_tried(recipe: Recipe) -> bool:
    """Whether a recipe is of a task whose batches can be tried.

    Args:
        recipe: The recipe.
    """
    has_data = recipe.data is not None or isinstance(recipe.task, UserComponent)
    return has_data and runner_of(recipe) in MODULE_RUNNERS


def trained_samples(trial: PlannedTrial) -> int:
    """Samples that an epoch of a trial on prepared data trains on; 0 where its data are its code's.

    Args:
        trial: The trial.
    """
    samples: Mapping[str, int] = trial.data.spec.samples if trial.data is not None else {}
    return sum(samples.get(split, 0) for split in trial.recipe.trainer.fit_on.split("+"))


def batch_check(recipe: Recipe, samples: int, ranks: int) -> BatchCheck:
    """What is to be tried of a recipe on prepared data.

    Args:
        recipe: The recipe.
        samples: Samples that an epoch trains on.
        ranks: Ranks of a trial.
    """
    sizes = rank_batches(recipe, samples, ranks)
    most = max(sizes, default=BATCH_SAMPLES)
    together = recipe.trainer.sync_batchnorm and ranks > 1  # the statistics are of the batches of all ranks
    return BatchCheck(min(most, BATCH_SAMPLES), 1 in sizes and not together, ranks)


def rank_batches(recipe: Recipe, samples: int, ranks: int) -> set[int]:
    """The sizes that the batches of an epoch have in a rank; empty where an epoch has no batch or they are unknown.

    Args:
        recipe: The recipe.
        samples: Samples that an epoch trains on.
        ranks: Ranks of a trial.
    """
    data = leading_source(recipe)
    if data is None:
        return set()
    size = samples if data.batch_size == "all" else data.batch_size
    whole, rest = divmod(samples, size) if size else (0, 0)
    sizes = {math.ceil(size / ranks)} if whole or (rest and data.last == "pad") else set()
    return sizes | ({math.ceil(rest / ranks)} if rest and data.last == "keep" else set())
