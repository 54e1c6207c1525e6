"""The report as files: one self-contained HTML page, and each figure as PNG and SVG beside it."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.config.identity import dump_yaml, recipe_from_identity
from expflow.errors import StorageUnwritable
from expflow.files import unwritable_named, write_atomically
from expflow.garbage import nothing_collected
from expflow.ledger.state import SweepState
from expflow.metrics import metric_value
from expflow.plain_data import plain_data
from expflow.report.curve_diagnosis import MOST_DIAGNOSED
from expflow.report.html_page import render_html
from expflow.report.leaderboard import rank_configs, selected_row
from expflow.report.parameter_importance import search_importance
from expflow.report.report_document import report_document
from expflow.report.trial_results import header_of
from expflow.report.view import ReportView, build_view
from expflow.text import command_line, escape_line

if TYPE_CHECKING:
    from expflow.report.canvas import RenderedFigure
    from expflow.report.charts.sections import ChartSections

_TEMPLATE = "report.html.j2"
_BADGES = {
    "as_expected": "as expected",
    "opposite": "opposite of expected",
    "not_resolved": "not resolved",
    "exploratory": "exploratory",
    "in_progress": "in progress",
}


@dataclass(frozen=True)
class ReportFiles:
    """What :func:`write_report` wrote.

    Attributes:
        html: The page.
        data: The report for programs, ``report.json``.
        figures: The PNG files, the declared figures first; none where they could not be written.
        view: What the page shows.
        document: What ``data`` holds.
        unwritable: Why the files could not be written, in words; empty where they were.
    """

    html: Path
    data: Path
    figures: list[Path]
    view: ReportView
    document: Any
    unwritable: str = ""


def import_drawing() -> None:
    """Import what a report is drawn with: half a second, most of it for matplotlib."""
    with nothing_collected():
        importlib.import_module("expflow.report.charts.sections")
        importlib.import_module("expflow.report.figures")


def write_report(folder: Path, state: SweepState) -> ReportFiles:
    """Write ``report.html``, ``report.json``, ``figures/`` and ``best.yaml``; the same state gives the same bytes.

    Each file is renamed into place when it is complete, so that a reader never sees half of one. A folder that cannot
    be written, of a colleague's for example, is no error: what the page would show can be shown elsewhere.

    Args:
        folder: The results folder.
        state: What its ledger adds up to.
    """
    import_drawing()
    from expflow.report.charts.sections import chart_sections
    from expflow.report.figures import draw_figures, draw_learning_curves

    view = build_view(folder, state)
    html, data = folder / "report.html", folder / "report.json"
    importance = search_importance(rank_configs(state), header_of(state), known=data)
    charts = chart_sections(view, state, folder, importance)
    with nothing_collected():  # a figure's parts stay until it is drawn
        declared, learning = draw_figures(view.figures), draw_learning_curves(view.learning)
    names = tuple(figure.name for figure in (*declared, *learning))
    document = plain_data(report_document(view, state, folder, names, importance))
    pngs, unwritable = [folder / "figures" / f"{name}.png" for name in names], ""
    try:
        with unwritable_named(html, "the report"):
            (folder / "figures").mkdir(parents=True, exist_ok=True)
            for figure, png in zip((*declared, *learning), pngs, strict=True):
                write_atomically(png, figure.png)
                write_atomically(png.with_suffix(".svg"), figure.svg)
            if (text := _best_recipe(state)) is not None:
                write_atomically(folder / "best.yaml", text.encode())
            write_atomically(data, (json.dumps(document, indent=1) + "\n").encode())
            write_atomically(html, render_page(view, charts, declared, learning).encode())
    except StorageUnwritable as error:
        pngs, unwritable = [], str(error)
    return ReportFiles(html, data, pngs, view, document, unwritable)


def current_report(folder: Path, state: SweepState) -> ReportFiles | None:
    """The report that lies there already; None where the ledger has gone on since, or something of it is missing.

    Args:
        folder: The results folder.
        state: What its ledger adds up to.
    """
    html, data = folder / "report.html", folder / "report.json"
    newest = max((file.stat().st_mtime_ns for file in (folder / "ledger").glob("*.jsonl")), default=0)
    if not html.exists() or html.stat().st_mtime_ns < newest:
        return None
    view = build_view(folder, state)
    names = [figure.name for figure in view.figures]
    if view.learning is not None:
        names += [*(["learning-loss"] if view.learning.losses else []), "learning-metric"]
    figures = [folder / "figures" / f"{name}.png" for name in names]
    if not all(file.exists() for file in (data, *figures)):
        return None
    return ReportFiles(html, data, figures, view, json.loads(data.read_bytes()))


def _best_recipe(state: SweepState) -> str | None:
    """The selected config as an experiment file; None before there is one."""
    row = selected_row(state)
    if row is None or row.estimate is None or state.header is None:
        return None
    value = metric_value(state.header.metric, row.estimate.mean)
    metric, file = escape_line(state.header.metric), escape_line(Path(state.header.file).name)
    head = (
        f"# {row.label or state.header.name}: {metric} {value}, n = {row.estimate.n}, selected on it\n"
        f"# Copy it beside {file} to train it again: paths and modules are looked up from there.\n"
    )
    recipe = recipe_from_identity(row.recipe, row.trials[0].budget)
    data, base = recipe.get("data"), state.header.recipe.get("data")
    if isinstance(data, dict) and isinstance(base, dict) and data.get("name") == base.get("name"):
        recipe["data"] = {**base, **data}  # where the data lie is no part of what was compared
    return head + dump_yaml(recipe)


def render_page(
    view: ReportView, charts: ChartSections, declared: Sequence[RenderedFigure], learning: Sequence[RenderedFigure]
) -> str:
    """The HTML page of a report.

    Args:
        view: What it shows.
        charts: Its interactive charts.
        declared: The declared figures, shown where no script runs.
        learning: The learning curves, likewise.
    """
    return render_html(
        _TEMPLATE,
        charts.all(),
        view=view,
        badges=_BADGES,
        diagnosed=MOST_DIAGNOSED,
        figures=[_embedded(figure) for figure in declared],
        learning=[_embedded(figure) for figure in learning],
        charts=charts,
        picture_command=command_line("show", f"{view.name}/best", *view.drawing_options),
    )


def _embedded(figure: RenderedFigure) -> dict[str, str]:
    data = base64.b64encode(figure.svg).decode()
    return {
        "title": figure.title,
        "caption": figure.caption,
        "alt": figure.alt,
        "source": f"data:image/svg+xml;base64,{data}",  # an image, so that nothing inside can run or clash
    }
