"""A table as columns and cells of text, for whoever draws it: terminal or page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes:
        title: What stands above it.
        align: Which way its cells lean.
    """

    title: str
    align: Literal["left", "right"] = "right"


@dataclass(frozen=True)
class TextTable:
    """Titles and cells as text.

    Attributes:
        columns: The columns.
        rows: For each row a cell for each column.
        keys: For each row what each cell is sorted by, a number or a text; None where it has no value. Empty where the
            table is not sorted by its readers.
        words: For each row further words that it is found by.
    """

    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: tuple[tuple[float | str | None, ...], ...] = ()
    words: tuple[str, ...] = ()
