"""The page of ``report A B …``: results side by side, as one HTML file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from expflow.files import unwritable_named, write_atomically
from expflow.report.charts.comparison_charts import result_cost_charts, value_charts
from expflow.report.html_page import render_html
from expflow.report.result_comparison import ComparisonDocument, comparison_table, difference_table
from expflow.report.text_table import TextTable

FOLDER = "comparisons"
"""Where the pages lie in the folder of all results."""
_TEMPLATE = "comparison.html.j2"
_LONGEST_NAME = 80


def comparison_path(root: Path, comparison: ComparisonDocument) -> Path:
    """Where the page of a comparison lies: the same for the same results in the same order.

    Args:
        root: The folder of all results.
        comparison: The comparison.
    """
    addresses = [result.address for result in comparison.results]
    digest = hashlib.sha256("\n".join(addresses).encode(errors="backslashreplace")).hexdigest()[:8]
    words = re.sub(r"[^A-Za-z0-9.=+-]+", "_", "-vs-".join(addresses)).strip("._")
    return root / FOLDER / f"{words[:_LONGEST_NAME]}-{digest}.html"


def write_comparison(root: Path, comparison: ComparisonDocument) -> Path:
    """Write the page.

    Args:
        root: The folder of all results.
        comparison: What it shows.

    Returns:
        Where it lies.

    Raises:
        StorageUnwritable: It cannot be written.
    """
    path = comparison_path(root, comparison)
    values, costs = value_charts(comparison), result_cost_charts(comparison)
    page = render_html(
        _TEMPLATE,
        [*values, *costs],
        heading=" and ".join(result.address for result in comparison.results),
        comparison=comparison,
        results=_sortable(comparison),
        values=values,
        costs=costs,
        differing=difference_table(comparison),
    )
    with unwritable_named(path, "the comparison"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page.encode(errors="backslashreplace"))
    return path


def _sortable(comparison: ComparisonDocument) -> TextTable:
    """The table of results, sorted by numbers where a column holds a metric or a cost."""
    table = comparison_table(comparison)
    keys = []
    for result, row in zip(comparison.results, table.rows, strict=True):
        known: dict[str, float | str | None] = {
            "n": len(result.seeds),
            "parameters": result.params,
            "multiply-adds": result.macs,
            "time": result.seconds,
            **{metric: over.mean for metric, over in result.metrics.items()},
        }
        difference = next((line for line in comparison.differences if line.address == result.address), None)
        if difference is not None:
            known |= {"difference": difference.difference, "p (Holm)": difference.p_holm, "effect": difference.effect}
        texts = {column.title: cell for column, cell in zip(table.columns, row, strict=True)}
        keys.append(tuple(known.get(column.title, texts[column.title] or None) for column in table.columns))
    words = tuple(f"{result.address} {result.label}" for result in comparison.results)
    return TextTable(table.columns, table.rows, tuple(keys), words)
