"""What the pages of MLflow say in words, as Markdown: the question, what the report answers, and which config won.

Everything is taken from ``report.json`` as the report wrote it, so that MLflow says what the report says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expflow.config.identity import config_text
from expflow.metrics import metric_value

TAG = "mlflow.note.content"
"""The tag that MLflow shows as a run's or an experiment's description."""

DIGEST_TAG = "expflow.note"
"""The tag that says which description is expflow's own: one that somebody has changed is left alone."""

LONGEST_NOTE = 5000
"""Characters of a description: MLflow's limit for an experiment's tag."""

_OUTCOMES = {
    "as_expected": "As expected",
    "opposite": "The opposite",
    "not_resolved": "Not resolved",
    "exploratory": "Exploratory",
    "in_progress": "In progress",
}


def read_report(path: Path) -> Mapping[str, Any]:
    """``report.json`` as plain data; empty where there is none, or it is none.

    Args:
        path: The file.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, Mapping) else {}


def digest(note: str) -> str:
    """What a description is recognised by.

    Args:
        note: The description.
    """
    return hashlib.sha256(note.encode()).hexdigest()[:16]


def sweep_note(about: Mapping[str, str], report: Mapping[str, Any]) -> str:
    """A sweep's description: its question, what was expected, the answers, the selected config.

    Args:
        about: The experiment's ``about``.
        report: What :func:`read_report` gave.
    """
    question, expected = about.get("question", ""), about.get("expect", "")
    blocks = [f"**{question}**" if question else "", f"Expected: {expected}" if expected else ""]
    return _joined([*blocks, _answers(report), _selected(report)])


def config_note(report: Mapping[str, Any], config: str) -> str:
    """A config's description: its place, its value over the seeds, and which seeds gave none.

    Args:
        report: What :func:`read_report` gave.
        config: Id of the config.
    """
    row = next((row for row in _rows(report, "leaderboard") if row.get("config") == config), None)
    return _row(report, row) if row is not None else ""


def model_note(report: Mapping[str, Any], config: str, trial: str) -> str:
    """A registered model's description: whose network it is, how good its config was, what the sweep answered.

    Args:
        report: What :func:`read_report` gave.
        config: Id of the model's config.
        trial: Id of the model's trial.
    """
    question = str(report.get("question") or "")
    whose = f"Trial `{trial}` of `{report.get('name', '')}`."
    chosen = _rows(report, "leaderboard")[:1]
    hint = "Selected by this value, hence optimistic." if chosen and chosen[0].get("config") == config else ""
    blocks = [f"**{question}**" if question else "", whose, config_note(report, config), hint, _answers(report)]
    return _joined(blocks)


def _joined(blocks: Sequence[str]) -> str:
    text = "\n\n".join(filter(None, blocks))
    return text if len(text) <= LONGEST_NOTE else text[: LONGEST_NOTE - 1] + "…"


def _answers(report: Mapping[str, Any]) -> str:
    lines = []
    for answer in _rows(report, "answers"):
        outcome = _OUTCOMES.get(str(answer.get("verdict")), "")
        sentence = str(answer.get("sentence") or answer.get("claim") or "")
        lines.append(f"- **{outcome}.** {sentence.removesuffix(f' {outcome}.')}" if outcome else f"- {sentence}")
    return "\n".join(lines)


def _selected(report: Mapping[str, Any]) -> str:
    row = next(iter(_rows(report, "leaderboard")), None)
    if row is None or row.get("rank") != 1:
        return ""
    return f"Selected: {config_text(row.get('values') or {}) or report.get('name', '')}. {_row(report, row)}"


def _row(report: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    ranked = [other for other in _rows(report, "leaderboard") if other.get("rank") is not None]
    metric, value = str(report.get("metric", "")), row.get("value")
    if row.get("rank") is None or not isinstance(value, Mapping):
        return "No seed of it is at full budget." + _lost(row)
    number = metric_value(metric, float(value["mean"]))
    if value.get("low") is not None and value.get("high") is not None:
        ends = (metric_value(metric, float(value[end]), unit=False) for end in ("low", "high"))
        number += f" [{', '.join(ends)}]"
    return f"Rank {row['rank']} of {len(ranked)}: {metric} {number}, n = {value.get('n')}.{_lost(row)}"


def _lost(row: Mapping[str, Any]) -> str:
    lost: Sequence[Any] = row.get("lost") or ()
    return f" Without a value: {', '.join(f's{seed}' for seed in lost)}." if lost else ""


def _rows(report: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = report.get(key)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
