"""What a sweep has shown: leaderboard, answers of the declared contrasts, figures and the HTML report.

Everything is computed from the ledger's state, by the rules of docs/inference.md, and from the predictions that trials
keep:

    view = build_view(folder, state)
    print(terminal_text(view))
    write_report(folder, state)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expflow.report.contrast_answers import Answer
    from expflow.report.contrasts import answers
    from expflow.report.leaderboard import Leaderboard, LeaderboardRow, rank_configs, selected_row
    from expflow.report.page import ReportFiles, current_report, write_report
    from expflow.report.terminal import terminal_text
    from expflow.report.view import ReportView, build_view

__all__ = [
    "Answer",
    "Leaderboard",
    "LeaderboardRow",
    "ReportFiles",
    "ReportView",
    "answers",
    "build_view",
    "current_report",
    "rank_configs",
    "selected_row",
    "terminal_text",
    "write_report",
]

_HOMES = {
    "Answer": "contrast_answers",
    "Leaderboard": "leaderboard",
    "LeaderboardRow": "leaderboard",
    "ReportFiles": "page",
    "ReportView": "view",
    "answers": "contrasts",
    "build_view": "view",
    "current_report": "page",
    "rank_configs": "leaderboard",
    "selected_row": "leaderboard",
    "terminal_text": "terminal",
    "write_report": "page",
}
"""Public name -> its module, which is imported when it is asked for: `status` wants no more than words of this package,
and need not wait for scipy."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
