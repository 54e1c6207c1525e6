"""What ``report A B …`` prints: results side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expflow.cli.documents.printing import print_document
from expflow.cli.echo import echo
from expflow.config import load_site
from expflow.config.address import MlflowAddress, parse_address
from expflow.errors import StorageUnwritable
from expflow.live.console import LiteralConsole
from expflow.report.comparison_page import write_comparison
from expflow.report.result_comparison import (
    AddressedResult,
    ComparisonDocument,
    compare_results,
    comparison_table,
    difference_table,
)
from expflow.report.table_formats import csv_table, latex_table, markdown_table
from expflow.report.terminal import aligned_table
from expflow.sweep.result_location import find_results, storage_root
from expflow.text import relative

_FORMS = {"markdown": markdown_table, "csv": csv_table, "latex": latex_table}


def show_comparison_of(names: Sequence[str], storage: str | None, form: str) -> None:
    """Print results side by side, and write the page that shows them.

    Args:
        names: Addresses of two results or more.
        storage: The folder of all results; None: the site's.
        form: How it is printed: ``text``, ``markdown``, ``csv``, ``latex`` or ``json``. A table alone has no page.

    Raises:
        StorageUnwritable: The page cannot be written; the comparison is printed before.
    """
    located = [_located(name, storage) for name in names]
    comparison = compare_results(located)
    if form in _FORMS:
        echo(_FORMS[form](comparison_table(comparison)), nl=False)
        return
    page, unwritable = "", None
    try:
        page = str(write_comparison(located[0].location.folder.parent, comparison))
    except StorageUnwritable as error:  # of a colleague's results, for example
        unwritable = error
    if form == "json":
        print_document(replace(comparison, page=page))
    else:
        _print_comparison(comparison, page)
    if unwritable is not None:
        raise unwritable


def _print_comparison(comparison: ComparisonDocument, page: str) -> None:
    console = LiteralConsole()
    console.print(aligned_table(comparison_table(comparison)), soft_wrap=True)
    console.print()
    _print_differences(console, comparison)
    for note in comparison.notes:
        console.print(f"- {note}", soft_wrap=True)
    if page:
        console.print(f"page     {relative(Path(page))}", soft_wrap=True)


def show_difference(names: Sequence[str], storage: str | None, *, as_json: bool) -> None:
    """Print in what the recipes of results differ, and the user's code and packages.

    Args:
        names: Addresses of two results or more.
        storage: The folder of all results; None: the site's.
        as_json: Whether JSON is printed: the whole comparison.
    """
    comparison = compare_results([_located(name, storage) for name in names])
    if as_json:
        print_document(comparison)
    else:
        _print_differences(LiteralConsole(), comparison)


def _print_differences(console: LiteralConsole, comparison: ComparisonDocument) -> None:
    if not comparison.recipes and not comparison.code:
        console.print("recipes, code and versions are the same")
        return
    console.print("they differ in")
    console.print(aligned_table(difference_table(comparison)), soft_wrap=True)
    for path, differences in comparison.sources.items():
        for result, difference in zip(comparison.results, differences, strict=True):
            if difference:
                console.print(f"\n{path} of {result.address}")
                echo(difference)


def _located(name: str, storage: str | None) -> AddressedResult:
    address = parse_address(name)
    if not isinstance(address, MlflowAddress):
        return AddressedResult(name, find_results(name, storage))
    from expflow.tracking import resolve_uri
    from expflow.tracking.run_origin import run_origin

    root = storage_root(storage)
    origin = run_origin(resolve_uri(root, environ=os.environ, site=load_site().mlflow), address.run)
    location = find_results(origin.name, str(root))
    if origin.trial:
        return AddressedResult(name, replace(location, which=origin.trial))
    return AddressedResult(name, location, origin.config)
