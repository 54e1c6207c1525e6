"""The report for a terminal: plain text, no colours, so that it reads the same in a log file."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from expflow.report.contrasts import Answer
from expflow.report.ranking import Leaderboard
from expflow.report.tables import Table, stopped_table, table
from expflow.report.testing import Looks

_MARKS = {"as_expected": "+", "opposite": "!", "not_resolved": "?"}


def to_text(
    board: Leaderboard,
    found: Sequence[Answer] = (),
    test: Looks | None = None,
    *,
    width: int = 100,
    most: int | None = 20,
) -> str:
    """Leaderboard, its notes, the answers and the looks at the test split, paragraphs wrapped at ``width``.

    At most ``most`` rows of each table are shown (None: all), and how many were left out is said.
    """
    blocks = []
    if not board.progress.complete:
        blocks.append(f"Not finished: {board.progress}. The answers are preliminary.")
    blocks.append(table_text(table(board), most) if board.rows else "No trial yet.")
    if board.stopped:
        blocks.append("Stopped early, not ranked:\n" + table_text(stopped_table(board), most))
    if board.notes:
        blocks.append("\n".join(_wrapped(note, "- ", width) for note in board.notes))
    for answer in found:
        lines = [answer.sentence, *answer.notes]
        blocks.append(
            "\n".join(
                _wrapped(line, f"{_MARKS[answer.verdict]} " if at == 0 else "  ", width)
                for at, line in enumerate(lines)
            )
        )
    if test is not None:
        blocks.append(looks_text(test, width))
    return "\n\n".join(blocks) + "\n"


def looks_text(test: Looks, width: int = 100) -> str:
    """The looks at the test split, what each gave, and how to read it."""
    return "\n".join(
        [
            _wrapped(test.sentence, "", width),
            table_text(test.table),
            *(_wrapped(each, "- ", width) for each in test.notes),
        ]
    )


def table_text(data: Table, most: int | None = None) -> str:
    """``data`` with its columns aligned; rows beyond ``most`` are counted, not shown."""
    rows = data.rows if most is None else data.rows[:most]
    cells = [tuple(column.title for column in data.columns), *rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(data.columns))]
    lines = [
        "  ".join(
            cell.ljust(size) if column.align == "left" else cell.rjust(size)
            for cell, size, column in zip(row, widths, data.columns, strict=True)
        ).rstrip()
        for row in cells
    ]
    left = len(data.rows) - len(rows)
    return "\n".join([*lines, f"… and {left} more"] if left else lines)


def _wrapped(text: str, mark: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent=mark, subsequent_indent="  ", break_long_words=False)
