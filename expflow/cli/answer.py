"""How answers and leaderboards are shown on the terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from expflow.ledger import SweepState
from expflow.report import ReportFiles, answers, leaderboard, looks, to_text, with_images
from expflow.sweep.results import storage_root


def relative(path: Path) -> str:
    """``path`` as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def show_answer(console: Console, state: SweepState, files: ReportFiles) -> None:
    """Print leaderboard and answers, and where to look next."""
    folder = files.html.parent
    found = with_images(answers(state), state, folder)
    text = to_text(leaderboard(state), found, looks(state, folder), width=console.width)
    console.print(Text(text), soft_wrap=True)
    console.print()
    for figure in files.figures:
        if figure.suffix == ".png":
            console.print(f"figure   {relative(figure)}", highlight=False, soft_wrap=True)
    console.print(f"report   {relative(files.html)}", highlight=False, soft_wrap=True)
    if state.header is not None:
        console.print(f"compare  {_ui_command(state.header.name, files.html)}", highlight=False, soft_wrap=True)


def _ui_command(name: str, report: Path) -> str:
    root = report.parent.parent
    words = [] if root == storage_root() else ["--storage", relative(root)]
    return shlex.join(["expflow", "ui", name, *words])
