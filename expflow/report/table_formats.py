"""Tables as Markdown, CSV and LaTeX, for papers and spreadsheets."""

from __future__ import annotations

import csv
import io

from expflow.report.text_table import TextTable

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
}


def markdown_table(table: TextTable) -> str:
    """A table in GitHub's Markdown.

    Args:
        table: The table.
    """
    lines = [
        _markdown_row([column.title for column in table.columns]),
        _markdown_row(["---" if column.align == "left" else "---:" for column in table.columns]),
        *(_markdown_row(row) for row in table.rows),
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def csv_table(table: TextTable) -> str:
    """A table as CSV.

    Args:
        table: The table.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.title for column in table.columns])
    writer.writerows(table.rows)
    return out.getvalue()


def latex_table(table: TextTable) -> str:
    """A table as LaTeX, with the rules of the package booktabs.

    Args:
        table: The table.
    """
    shape = "".join("l" if column.align == "left" else "r" for column in table.columns)
    head = " & ".join(_escaped(column.title) for column in table.columns)
    body = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in table.rows]
    lines = [rf"\begin{{tabular}}{{{shape}}}", r"\toprule", head + r" \\", r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
