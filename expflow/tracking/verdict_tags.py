"""The verdicts of a report as tags of the sweep's run, so that MLflow can search for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIELDS = ("verdict", "resolution", "holds_for", "claim")


def verdict_tags(report: Mapping[str, Any]) -> dict[str, str]:
    """``expflow.answer.1.verdict`` and so on: what the report says of each declared contrast, in the file's order.

    Args:
        report: ``report.json`` as plain data (:func:`expflow.tracking.notes.read_report`).

    Returns:
        Empty where there is none, and of results that an older expflow reported on.
    """
    answers = report.get("answers")
    rows = [answer for answer in answers if isinstance(answer, Mapping)] if isinstance(answers, list) else []
    tags: dict[str, str] = {}
    for number, answer in enumerate(rows, start=1):
        tags |= {f"expflow.answer.{number}.{field}": str(answer[field]) for field in _FIELDS if field in answer}
    if best := _best(report):
        tags |= best
    return tags


def _best(report: Mapping[str, Any]) -> dict[str, str]:
    best = report.get("best")
    if not isinstance(best, Mapping) or best.get("score") is None:
        return {}
    return {f"expflow.best.{field}": str(best[field]) for field in ("configs", "tried", "score", "low", "high")}
