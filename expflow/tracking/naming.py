"""Names, tags and parameters of runs, in the form that MLflow accepts."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from expflow.config.identity import config_text
from expflow.config.merge import merge, tree_of_values
from expflow.config.tree import Mark, from_plain, plain

_FOREIGN = re.compile(r"[^\w\-. :/]")  # what MLflow refuses in the key of a metric or a parameter
_LONGEST_KEY = 250
_LONGEST_VALUE = 6000

_COLORS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
    "#003f5c", "#a05195", "#ffa600", "#006d5b", "#b30059", "#5c4033",
)  # fmt: skip


def run_color(place: int) -> str:
    """A colour for a config's runs: the first 16 differ. MLflow's own are drawn at random.

    Args:
        place: The config's number in the order of proposal, from 0.
    """
    return _COLORS[place % len(_COLORS)]


def safe_key(key: str) -> str:
    """A key as MLflow takes it. MLflow also refuses what would leave a folder if it were a path.

    Args:
        key: Name of a metric or parameter.
    """
    key = posixpath.normpath(_FOREIGN.sub("_", key)).lstrip("/.")
    return key[:_LONGEST_KEY] or "_"


def as_text(value: Any) -> str:
    """A parameter's or tag's value as text: texts as they are, the rest as JSON; cut where MLflow's limit is.

    Args:
        value: Any plain data.
    """
    words = value if isinstance(value, str) else json.dumps(value, default=str)
    return words if len(words) <= _LONGEST_VALUE else words[: _LONGEST_VALUE - 1] + "…"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A recipe as parameters with dotted keys. Lists stay together; an empty mapping is left out.

    Args:
        tree: The recipe.
        prefix: What every key begins with, its dot included.
    """
    parameters: dict[str, str] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            parameters |= flatten(value, f"{path}.")
        else:
            parameters[safe_key(path)] = as_text(value)
    return parameters


def full_recipe(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The base recipe with a config's searched values laid over it by the one merge rule.

    Args:
        base: The base recipe.
        values: Searched key -> value.
    """
    mark = Mark("ledger")
    over = tree_of_values({key: from_plain(value, mark) for key, value in values.items()}, mark)
    return dict(plain(merge(from_plain(base, mark), over)))


def run_name(name: str, values: Mapping[str, Any], seed: int | None = None) -> str:
    """``depth=56 shortcut=pad s0``; the experiment's name stands for values where nothing is searched.

    Args:
        name: The experiment's name.
        values: Searched key -> value.
        seed: The trial's seed; None for a config's run.
    """
    words = config_text(values) if values else name
    return words if seed is None else f"{words} s{seed}"
