"""Hashes and keys that say whether two plans are the same: their values are stored, so none of them may change."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from expflow.config.identity import dump, identity_tree
from expflow.config.schema import Recipe, Sweep, Trainer
from expflow.config.spec import UserComponent, role_of


def plan_digest(recipe: Recipe, sweep: Sweep) -> str:
    """Hash of what is searched: another plan starts another set of trials.

    Args:
        recipe: The base recipe.
        sweep: The space, the searcher and the seeds.
    """
    searcher = sweep.searcher.model_dump(mode="json")
    confirm = [sweep.confirm.model_dump(mode="json")] if sweep.confirm else []
    return digest([dump(recipe), space_facts(sweep), sweep.seeds, searcher, *confirm, *_limits(sweep)])


def search_digest(recipe: Recipe, sweep: Sweep, mode: str) -> str:
    """Hash of all that the searcher's proposals depend on, besides results.

    Its number of configs does not count: a search that is extended goes on.

    Args:
        recipe: The base recipe.
        sweep: The space, the searcher and the metric.
        mode: ``max`` or ``min``, as resolved for the sweep's metric.
    """
    searcher = sweep.searcher.model_dump(mode="json", exclude={"trials"}, exclude_defaults=True)
    base = identity_tree(recipe)
    judged = [sweep.metric, mode, sweep.select]
    further = [[one.metric, one.mode] for one in sweep.further]  # none: a hash from before there were several
    return digest([base, space_facts(sweep), searcher, sweep.searcher.name, *judged, *further, *_limits(sweep)])


def _limits(sweep: Sweep) -> list[dict[str, Any]]:
    """The limits on networks; none where there are none, as in plans from before there were any."""
    limits = sweep.limits.model_dump(mode="json", exclude_none=True)
    proxies = sweep.proxies.model_dump(mode="json") if sweep.proxies.names else {}
    return [*([limits] if limits else []), *([proxies] if proxies else [])]


def space_facts(sweep: Sweep) -> tuple[dict[str, Any], ...]:
    """The searched dimensions as plain data.

    Args:
        sweep: The sweep that has them.
    """
    return tuple(dimension.model_dump(mode="json") for dimension in sweep.space)


def budget_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe's budget fields by dotted key; what is left open is left out.

    Args:
        recipe: Any config's recipe.
    """
    fields = [key for key in Trainer.model_fields if role_of(Trainer, key) == "budget"]
    return {f"trainer.{key}": value for key in fields if (value := getattr(recipe.trainer, key)) is not None}


def own_data_key(recipe: Recipe) -> str:
    """The data key of data that the user's own code brings: a hash of what the file says of them.

    Where the file names no data, they are those of the user's task, whose arguments are in the config's id.

    Args:
        recipe: A recipe whose data are not prepared by expflow.
    """
    if recipe.data is not None:
        return digest(dump(recipe).get("data"))
    return digest({"task": recipe.task.name}) if isinstance(recipe.task, UserComponent) else "none"


def digest(value: Any) -> str:
    """The first 16 hex digits of the sha256 of plain data.

    Args:
        value: What JSON can hold; anything else is taken as its text.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
