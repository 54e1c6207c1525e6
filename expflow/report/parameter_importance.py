"""How much of the differences between configs each searched key accounts for, as two of Optuna's evaluators say it.

Sources:
    PED-ANOVA: S. Watanabe, A. Bansal, F. Hutter, 2023. fANOVA: F. Hutter, H. Hoos, K. Leyton-Brown, 2014.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.config.space import same_value
from expflow.ledger.header import Header
from expflow.report.figure_data import ordered_values
from expflow.report.leaderboard import Leaderboard, LeaderboardRow

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_CONFIGS = 20
"""Fewer configs say nothing about what matters: PED-ANOVA wants five among the best."""
MOST_CONFIGS = 200
"""fANOVA takes long for more; of a longer search every k-th config is taken, in the order of the leaderboard."""
MOST_CHOICES = 6
"""Optuna's fANOVA goes through all combinations of a column per listed value: two to the power of their number. Longer
lists stand on one axis, in the order of their values, numbers by their size."""
_BEST_SHARE = 0.25
_TREES = 32
_CHOICE = "choice"


@dataclass(frozen=True)
class ParameterImportance:
    """The share of one searched key.

    Attributes:
        key: The key.
        ped_anova: How far its values among the best quarter of the configs differ from those among all; 0 to 1.
        fanova: Share of the variance over all configs that it explains, by a random forest; 0 to 1.
    """

    key: str
    ped_anova: float
    fanova: float


@dataclass(frozen=True)
class SearchImportance:
    """What the differences of a search come from. A model's reading of this search, no test.

    Attributes:
        configs: How many configs it is read from.
        keys: The searched keys that every config has and that differ among them, the most important one first.
        inputs: Digest of what it follows from: configs, values, versions.
    """

    configs: int
    keys: tuple[ParameterImportance, ...]
    inputs: str


def search_importance(board: Leaderboard, header: Header, known: Path | None = None) -> SearchImportance | None:
    """The importance of each key that every config has and that differs among them.

    Args:
        board: The leaderboard.
        header: The sweep's header, which knows the space.
        known: A ``report.json`` that was written before. Where it holds the importance of the same configs, that is
            taken, since optuna's and sklearn's imports alone take a second.

    Returns:
        None where there are fewer than 20 configs or two such keys, or where all configs are equally good.
    """
    rows = [row for row in board.rows if row.estimate is not None]
    rows = rows[:: -(-len(rows) // MOST_CONFIGS) or 1]
    keys = [key for key in board.keys if _differs(rows, key)]
    means = [row.estimate.mean for row in rows if row.estimate is not None]
    if len(rows) < FEWEST_CONFIGS or len(keys) < 2 or len(set(means)) < 2:
        return None
    columns = {key: _column(rows, key, header) for key in keys}
    inputs = _digest([board.mode, means, columns])
    if known is not None and (earlier := _earlier(known, inputs)) is not None:
        return earlier
    ped_anova, fanova = _evaluated(columns, means, board.mode)
    shares = [ParameterImportance(key, ped_anova.get(key, 0.0), fanova.get(key, 0.0)) for key in keys]
    return SearchImportance(len(rows), tuple(sorted(shares, key=lambda share: -share.fanova)), inputs)


def _digest(content: Any) -> str:
    versions = [metadata.version("optuna"), metadata.version("scikit-learn"), _BEST_SHARE, _TREES]
    return hashlib.sha256(json.dumps([versions, content], default=vars).encode()).hexdigest()[:16]


def _earlier(known: Path, inputs: str) -> SearchImportance | None:
    """What a report that was written before holds; None where it is of other configs, damaged, or not there."""
    try:
        content = json.loads(known.read_bytes())["importance"]
        if content["inputs"] != inputs:
            return None
        keys = [
            ParameterImportance(str(row["key"]), float(row["ped_anova"]), float(row["fanova"]))
            for row in content["keys"]
        ]
        return SearchImportance(int(content["configs"]), tuple(keys), inputs)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _differs(rows: Sequence[LeaderboardRow], key: str) -> bool:
    if not all(key in row.values for row in rows):
        return False
    return any(not same_value(row.values[key], rows[0].values[key]) for row in rows)


@dataclass(frozen=True)
class _Column:
    """The values of a key as Optuna takes them.

    Attributes:
        values: Of listed ones their places, of an interval the numbers; one for each config.
        choices: How many values are listed; 0 for an interval, and for a long list.
        log: Whether the interval is logarithmic.
    """

    values: tuple[float, ...]
    choices: int = 0
    log: bool = False

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        if self.choices:
            return CategoricalDistribution(tuple(range(self.choices)))
        return FloatDistribution(min(self.values), max(self.values), log=self.log)


def _column(rows: Sequence[LeaderboardRow], key: str, header: Header) -> _Column:
    dimension: Mapping[str, Any] = next((entry for entry in header.space if entry["key"] == key), {})
    values = [row.values[key] for row in rows]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numeric and dimension.get("kind", _CHOICE) != _CHOICE:
        log = dimension.get("kind") == "loguniform" or bool(dimension.get("log"))
        return _Column(tuple(float(value) for value in values), log=log and min(values) > 0)
    listed: list[Any] = []
    for value in values:
        if not any(same_value(value, other) for other in listed):
            listed.append(value)
    long = len(listed) > MOST_CHOICES
    if long:
        listed = ordered_values(sorted(listed, key=repr), key, header)
    places = [next(at for at, other in enumerate(listed) if same_value(value, other)) for value in values]
    return _Column(tuple(places), choices=0 if long else len(listed))


def _evaluated(
    columns: Mapping[str, _Column], means: Sequence[float], mode: str
) -> tuple[dict[str, float], dict[str, float]]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
            distributions = {key: column.distribution() for key, column in columns.items()}
            study.add_trials(
                [
                    optuna.trial.create_trial(
                        params={key: column.values[place] for key, column in columns.items()},
                        distributions=distributions,
                        value=mean,
                    )
                    for place, mean in enumerate(means)
                ]
            )
            best = PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE)
            ped_anova = get_param_importances(study, evaluator=best)
            fanova = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=_TREES, seed=0))
    finally:
        optuna.logging.set_verbosity(verbosity)
    return _plain(ped_anova), _plain(fanova)


def _plain(shares: Mapping[str, float]) -> dict[str, float]:
    return {key: float(share) for key, share in shares.items()}
