"""The leaderboard as columns and cells of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from expflow.config.child_space import with_child_texts
from expflow.config.identity import short_keys, value_text
from expflow.intervals import Estimate
from expflow.metrics import metric_value
from expflow.report import formatting
from expflow.report.leaderboard import Leaderboard, LeaderboardRow
from expflow.report.text_table import TableColumn, TextTable

_COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "params": ("parameters", formatting.count),
    "macs": ("multiply-adds", formatting.count),
    "seconds": ("time", formatting.duration),
}
"""Attribute of a row -> its column's title, and how a value is written."""
_Cell = tuple[str, float | str | None]
"""A cell's text, and what it is sorted by."""


def ranked_table(board: Leaderboard) -> TextTable:
    """The leaderboard's rows as text.

    Args:
        board: The leaderboard. Costs that no row knows have no column.
    """
    keys = list(with_child_texts(dict.fromkeys(board.keys)))
    short = short_keys(dict.fromkeys(keys))
    named = "best epoch's " if board.select == "best_epoch" else ""
    columns = [TableColumn("#"), *(TableColumn(short[key], "left") for key in keys)]
    if not keys:
        columns.append(TableColumn("config", "left"))
    columns += [TableColumn(f"{named}{board.metric}"), TableColumn("interval", "left"), TableColumn("n", "left")]
    if board.select == "best_epoch":
        columns.append(TableColumn(f"last {board.metric}"))
    columns += [TableColumn(metric) for metric in board.others]
    costs = [cost for cost in _COSTS if f"cost/{cost}" not in board.others]
    costs = [cost for cost in costs if any(getattr(row, cost) is not None for row in board.rows)]
    columns += [TableColumn(_COSTS[cost][0]) for cost in costs]
    cells = [_cells(board, row, costs) for row in board.rows]
    return TextTable(
        tuple(columns),
        tuple(tuple(text for text, _ in row) for row in cells),
        tuple(tuple(key for _, key in row) for row in cells),
        tuple(row.label for row in board.rows),
    )


def _cells(board: Leaderboard, row: LeaderboardRow, costs: Sequence[str]) -> list[_Cell]:
    cells: list[_Cell] = [("-", None) if row.rank is None else (str(row.rank), row.rank)]
    values = with_child_texts(row.values)
    keys = with_child_texts(dict.fromkeys(board.keys))
    cells += [_value_cell(values[key]) if key in values else ("-", None) for key in keys]
    if not board.keys:
        cells.append((row.label, row.label))
    cells.append(_metric_cell(board.metric, row.estimate))
    bounds = formatting.interval(board.metric, row.estimate) if row.estimate else ""
    cells += [(bounds, row.estimate.low if row.estimate else None), (row.seeds_text, len(row.trials))]
    if board.select == "best_epoch":
        cells.append(_metric_cell(board.metric, row.last if row.estimate else None))
    cells += [_metric_cell(metric, row.others.get(metric)) for metric in board.others]
    for cost in costs:
        amount = getattr(row, cost)
        cells.append(("-", None) if amount is None else (_COSTS[cost][1](amount), amount))
    return cells


def _metric_cell(metric: str, over: Estimate | None) -> _Cell:
    return ("-", None) if over is None else (metric_value(metric, over.mean), over.mean)


def _value_cell(value: Any) -> _Cell:
    text = value_text(value)
    return text, float(value) if isinstance(value, int | float) and not isinstance(value, bool) else text


def stopped_table(board: Leaderboard) -> TextTable:
    """The early-stopped trials by rung, farthest first.

    Args:
        board: The leaderboard.
    """
    columns = (
        TableColumn("rung", "left"),
        TableColumn("config", "left"),
        TableColumn("seed"),
        TableColumn(f"{board.metric} there"),
    )
    return TextTable(
        columns,
        tuple(
            (
                trial.rung,
                trial.label,
                str(trial.seed),
                "-" if trial.value is None else metric_value(board.metric, trial.value),
            )
            for trial in board.stopped
        ),
    )
