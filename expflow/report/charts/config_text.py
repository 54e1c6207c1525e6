"""What stands over a point that is a config: its rank, values and seeds."""

from __future__ import annotations

from expflow.ledger.header import Header
from expflow.ledger.trial_values import counted_value
from expflow.metrics import metric_value
from expflow.report import formatting
from expflow.report.leaderboard import Leaderboard, LeaderboardRow

_MOST_SEEDS = 10


def config_lines(row: LeaderboardRow, board: Leaderboard, header: Header) -> list[str]:
    """A config in words, a text for each line.

    Args:
        row: The config.
        board: The leaderboard that it is of.
        header: The sweep's header.
    """
    if row.estimate is None:
        return [row.label]
    mean = metric_value(board.metric, row.estimate.mean)
    seeds = [
        f"s{trial.seed} {metric_value(board.metric, value, unit=False)}"
        for trial in row.trials[:_MOST_SEEDS]
        if (value := counted_value(trial, board.metric, header)) is not None
    ]
    return [
        f"#{row.rank} {row.label}",
        f"{board.metric} {mean} {formatting.interval(board.metric, row.estimate)}".rstrip(),
        ", ".join(seeds) + (", …" if len(row.trials) > _MOST_SEEDS else ""),
    ]
