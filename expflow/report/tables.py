"""The leaderboard as columns and cells of text, for whoever draws them (terminal, HTML)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from expflow.config.identity import short_keys, value_words
from expflow.report import words
from expflow.report.ranking import Leaderboard, Row


@dataclass(frozen=True)
class Column:
    """A column's title and which way its cells lean."""

    title: str
    align: Literal["left", "right"] = "right"


@dataclass(frozen=True)
class Table:
    """Titles and cells as text, for whoever draws them."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def table(board: Leaderboard) -> Table:
    """The leaderboard's rows as text, ready to be drawn."""
    short = short_keys(dict.fromkeys(board.keys))
    named = "best epoch's " if board.select == "best_epoch" else ""
    columns = [Column("#"), *(Column(short[key], "left") for key in board.keys)]
    if not board.keys:
        columns.append(Column("config", "left"))
    columns += [Column(f"{named}{board.metric}"), Column("interval", "left"), Column("n", "left")]
    if board.select == "best_epoch":
        columns.append(Column(f"last {board.metric}"))
    columns += [Column(metric) for metric in board.others]
    shown = [
        each for each in ("params", "macs", "seconds") if any(getattr(row, each) is not None for row in board.rows)
    ]
    titles = {"params": "parameters", "macs": "multiply-adds", "seconds": "time"}
    columns += [Column(titles[each]) for each in shown]
    return Table(tuple(columns), tuple(_cells(board, row, shown) for row in board.rows))


def _cells(board: Leaderboard, row: Row, shown: Sequence[str]) -> tuple[str, ...]:
    cells = ["-" if row.rank is None else str(row.rank)]
    cells += [value_words(row.values[key]) if key in row.values else "-" for key in board.keys]
    if not board.keys:
        cells.append(row.label)
    if row.estimate is None:
        cells += ["-", "", row.seeds_text]
    else:
        mean = words.metric_value(board.metric, row.estimate.mean)
        cells += [mean, words.interval(board.metric, row.estimate), row.seeds_text]
    if board.select == "best_epoch":
        cells.append(words.metric_value(board.metric, row.last.mean) if row.last else "-")
    for metric in board.others:
        found = row.others.get(metric)
        cells.append(words.metric_value(metric, found.mean) if found else "-")
    write = {"params": words.count, "macs": words.count, "seconds": words.duration}
    for each in shown:
        amount = getattr(row, each)
        cells.append("-" if amount is None else write[each](amount))
    return tuple(cells)


def stopped_table(board: Leaderboard) -> Table:
    """The early-stopped trials by rung, farthest first."""
    columns = (Column("rung", "left"), Column("config", "left"), Column("seed"), Column(f"{board.metric} there"))
    return Table(
        columns,
        tuple(
            (
                each.rung,
                each.label,
                str(each.seed),
                "-" if each.value is None else words.metric_value(board.metric, each.value),
            )
            for each in board.stopped
        ),
    )
