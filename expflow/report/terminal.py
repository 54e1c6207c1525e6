"""The report for a terminal: plain text, no colours, so that it reads the same in a log file."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from expflow.report.curve_diagnosis import CurveDiagnosis
from expflow.report.proof_section import ProofSection
from expflow.report.test_evaluations import EvaluationSection
from expflow.report.text_table import TextTable
from expflow.report.view import ReportView
from expflow.text import escape_line

_MARKS = {"as_expected": "+", "opposite": "!", "not_resolved": "?", "exploratory": "~", "in_progress": "…"}
_MOST_DIAGNOSES = 10


def terminal_text(view: ReportView, *, width: int = 100, most: int | None = 20) -> str:
    """Leaderboard, its notes, answers, findings in the learning curves and test evaluations.

    Args:
        view: What is shown.
        width: Columns at which paragraphs are wrapped.
        most: Rows of each table that are shown, the others are counted; None: all.
    """
    blocks = []
    if not view.complete:
        blocks.append(f"Not finished: {view.status}. The answers are preliminary.")
    blocks.append(aligned_table(view.leaderboard, most) if view.leaderboard.rows else "No trial yet.")
    if view.stopped.rows:
        blocks.append("Stopped early, not ranked:\n" + aligned_table(view.stopped, most))
    if view.leaderboard_notes:
        blocks.append("\n".join(_wrapped(note, "- ", width) for note in view.leaderboard_notes))
    if view.proof is not None:
        blocks.append(_proof_text(view.proof, view.metric, width))
    if view.proxies is not None:
        table = [aligned_table(view.proxies.table)] if view.proxies.rows else []
        blocks.append("\n".join([_wrapped(view.proxies.sentence, "", width), *table]))
    if view.pareto is not None:
        notes = "\n".join(_wrapped(note, "- ", width) for note in view.pareto.notes)
        blocks.append(f"Pareto front:\n{aligned_table(view.pareto.table, most)}\n{notes}")
    for answer in view.answers:
        first = _wrapped(answer.sentence, f"{_MARKS[answer.verdict]} ", width)
        blocks.append("\n".join([first, *(_wrapped(note, "  ", width) for note in answer.notes)]))
    if findings := [diagnosis for diagnosis in view.diagnoses if not diagnosis.healthy]:
        blocks.append(_findings_text(findings, width))
    if view.test is not None:
        blocks.append(evaluations_text(view.test, width))
    return "\n\n".join(blocks) + "\n"


def _proof_text(proof: ProofSection, metric: str, width: int) -> str:
    lines = [_wrapped(proof.sentence, "", width), aligned_table(proof.table(metric))]
    lines += [_wrapped(f"{item.item}: {item.answer} ({item.evidence})", "- ", width) for item in proof.checklist]
    return "\n".join(lines)


def _findings_text(findings: Sequence[CurveDiagnosis], width: int) -> str:
    lines = ["Learning curves (a hint, no test):"]
    for diagnosis in findings[:_MOST_DIAGNOSES]:
        text = f"{diagnosis.label}: {diagnosis.title}: {diagnosis.sentence}. What would help: {diagnosis.help}."
        lines.append(_wrapped(text, "- ", width))
    left = len(findings) - _MOST_DIAGNOSES
    return "\n".join([*lines, f"… and {left} more" if left > 0 else ""]).rstrip()


def evaluations_text(test: EvaluationSection, width: int = 100) -> str:
    """The test evaluations, what each gave, and how to read it.

    Args:
        test: The report's section on the test split.
        width: Columns at which paragraphs are wrapped.
    """
    return "\n".join(
        [
            _wrapped(test.sentence, "", width),
            aligned_table(test.table),
            *(_wrapped(note, "- ", width) for note in test.notes),
        ]
    )


def aligned_table(table: TextTable, most: int | None = None) -> str:
    """A table with its columns aligned.

    Args:
        table: The table.
        most: Rows that are shown, the others are counted; None: all.
    """
    rows = table.rows if most is None else table.rows[:most]
    titles = tuple(column.title for column in table.columns)
    cells = [tuple(map(escape_line, row)) for row in (titles, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(table.columns))]
    lines = [
        "  ".join(
            cell.ljust(size) if column.align == "left" else cell.rjust(size)
            for cell, size, column in zip(row, widths, table.columns, strict=True)
        ).rstrip()
        for row in cells
    ]
    left = len(table.rows) - len(rows)
    return "\n".join([*lines, f"… and {left} more"] if left else lines)


def _wrapped(text: str, mark: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent=mark, subsequent_indent="  ", break_long_words=False)
