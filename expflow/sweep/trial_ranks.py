"""How many ranks the trials of a plan have, where `resources.by_config` gives some more than others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from expflow.config.resources import Resources
from expflow.config.schema import Sweep
from expflow.config.space import same_value
from expflow.errors import UserError


def ranks_of(resources: Resources, values: Mapping[str, Any]) -> int:
    """Ranks of a config's trials: of the first rule that fits it, else of all.

    Args:
        resources: What the file says.
        values: Searched key -> value.
    """
    for rule in resources.by_config:
        fits = (key in values and any(same_value(values[key], one) for one in all_) for key, all_ in rule.when.items())
        if all(fits):
            return rule.ranks
    return resources.ranks


def most_ranks(resources: Resources) -> int:
    """The ranks of the largest trial.

    Args:
        resources: What the file says.
    """
    return max([resources.ranks, *(rule.ranks for rule in resources.by_config)])


def check_rules(resources: Resources, sweep: Sweep) -> None:
    """Refuse rules that can never fit, and budgets that would count them wrongly.

    Args:
        resources: What the file says.
        sweep: What is searched.

    Raises:
        UserError: A rule asks for a key that is not searched, or a budget of devices is given.
    """
    keys = [dimension.key for dimension in sweep.space]
    for key in _asked(resources):
        if key not in keys:
            raise UserError(
                f"resources.by_config asks for {key}, which is not searched; sweep.space has "
                f"{', '.join(keys) or 'no key'}"
            )
    if resources.by_config and sweep.budget.device_hours is not None:
        raise UserError(
            "sweep.budget.device_hours takes all trials to have the same ranks: give sweep.budget.hours or trials, or "
            "leave out resources.by_config"
        )


def _asked(resources: Resources) -> Iterable[str]:
    return (key for rule in resources.by_config for key in rule.when)
