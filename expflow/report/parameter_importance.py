"""How much of the differences between configs each searched key accounts for, as two of Optuna's evaluators say it.

Sources:
    PED-ANOVA: S. Watanabe, A. Bansal, F. Hutter, 2023. fANOVA: F. Hutter, H. Hoos, K. Leyton-Brown, 2014.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expflow.config.space import same_value
from expflow.ledger.header import Header
from expflow.report.leaderboard import Leaderboard, LeaderboardRow

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_CONFIGS = 8
"""Fewer configs say nothing about what matters."""
MOST_CONFIGS = 200
"""fANOVA takes long for more; of a longer search every k-th config is taken, in the order of the leaderboard."""
_TREES = 32
_CHOICE = "choice"


@dataclass(frozen=True)
class ParameterImportance:
    """The share of one searched key.

    Attributes:
        key: The key.
        ped_anova: How far its values among the best tenth of the configs differ from those among all; 0 to 1.
        fanova: Share of the variance over all configs that it explains, by a random forest; 0 to 1.
    """

    key: str
    ped_anova: float
    fanova: float


def parameter_importances(board: Leaderboard, header: Header) -> list[ParameterImportance]:
    """The importance of each key that every config has and that differs among them, the most important one first.

    Args:
        board: The leaderboard.
        header: The sweep's header, which knows the space.

    Returns:
        Nothing where there are fewer than 8 configs or two such keys, or where all configs are equally good.
    """
    rows = [row for row in board.rows if row.estimate is not None]
    step = -(-len(rows) // MOST_CONFIGS) if rows else 1
    rows = rows[::step]
    keys = [key for key in board.keys if _differs(rows, key)]
    means = {row.estimate.mean for row in rows if row.estimate is not None}
    if len(rows) < FEWEST_CONFIGS or len(keys) < 2 or len(means) < 2:
        return []
    ped_anova, fanova = _evaluated(rows, keys, board.mode, header)
    shares = [ParameterImportance(key, ped_anova.get(key, 0.0), fanova.get(key, 0.0)) for key in keys]
    return sorted(shares, key=lambda share: -share.fanova)


def _differs(rows: Sequence[LeaderboardRow], key: str) -> bool:
    if not all(key in row.values for row in rows):
        return False
    return any(not same_value(row.values[key], rows[0].values[key]) for row in rows)


def _evaluated(
    rows: Sequence[LeaderboardRow], keys: Sequence[str], mode: str, header: Header
) -> tuple[dict[str, float], dict[str, float]]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
        columns = {key: _column(rows, key, header) for key in keys}
        distributions = {key: distribution for key, (distribution, _) in columns.items()}
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={key: values[place] for key, (_, values) in columns.items()},
                    distributions=distributions,
                    value=row.estimate.mean if row.estimate is not None else None,
                )
                for place, row in enumerate(rows)
            ]
        )
        ped_anova = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        fanova = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=_TREES, seed=0))
    return _plain(ped_anova), _plain(fanova)


def _plain(shares: Mapping[str, float]) -> dict[str, float]:
    return {key: float(share) for key, share in shares.items()}


def _column(rows: Sequence[LeaderboardRow], key: str, header: Header) -> tuple[BaseDistribution, list[Any]]:
    """How Optuna takes the values of a key: of listed ones their places, of an interval the numbers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    dimension: Mapping[str, Any] = next((entry for entry in header.space if entry["key"] == key), {})
    values = [row.values[key] for row in rows]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numeric and dimension.get("kind", _CHOICE) != _CHOICE:
        drawn = [float(value) for value in values]
        log = dimension.get("kind") == "loguniform" or bool(dimension.get("log"))
        return FloatDistribution(min(drawn), max(drawn), log=log and min(drawn) > 0), drawn
    distinct: list[Any] = []
    for value in values:
        if not any(same_value(value, other) for other in distinct):
            distinct.append(value)
    places = [next(at for at, other in enumerate(distinct) if same_value(value, other)) for value in values]
    return CategoricalDistribution(tuple(range(len(distinct)))), places
