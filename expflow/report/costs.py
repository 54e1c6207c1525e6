"""What a sweep was expected to cost and what it did cost, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expflow.ledger.state import SweepState
from expflow.report import words
from expflow.sweep.forecast import Beside, Range, beside


@dataclass(frozen=True)
class Cost:
    """One figure: as predicted with its interval, and as it came."""

    what: str
    predicted: str
    actual: str


def costs(folder: Path, state: SweepState) -> list[Cost]:
    """Predicted and actual cost of the results in ``folder``; empty where `plan` was not asked before."""
    return [Cost(each.what, range_text(each.predicted, each.unit), _actual(each)) for each in beside(folder, state)]


def range_text(found: Range | None, unit: str) -> str:
    """``1m20s (1m10s to 1m35s)``."""
    if found is None:
        return ""
    low, middle, high = (quantity(value, unit) for value in (found.low, found.middle, found.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def quantity(value: float, unit: str) -> str:
    """A number of seconds (``s``), hours (``h``), bytes (``B``) or anything else, in words."""
    if unit == "s":
        return words.duration(value)
    if unit == "h":
        return f"{value:.3g} h"
    if unit == "B":
        for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.0f} bytes"
    return f"{value:,.2f}"


def _actual(each: Beside) -> str:
    return quantity(each.actual, each.unit) if each.actual is not None else "not measured"
