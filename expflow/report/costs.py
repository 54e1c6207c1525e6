"""What a sweep was expected to cost and what it did cost, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expflow.ledger.state import SweepState
from expflow.metrics import number
from expflow.report import formatting
from expflow.sweep.forecast import ForecastComparison, ForecastRange, compare_forecast


@dataclass(frozen=True)
class CostComparison:
    """One quantity, predicted and actual.

    Attributes:
        what: What it is: wall time, device hours, memory.
        predicted: As predicted, with its interval.
        actual: As it came, or ``not measured``.
    """

    what: str
    predicted: str
    actual: str


def cost_comparisons(folder: Path, state: SweepState) -> list[CostComparison]:
    """Predicted and actual cost of some results.

    Args:
        folder: The results folder, where `plan` keeps its forecast.
        state: What the ledger adds up to.

    Returns:
        Empty where `plan` was not asked before.
    """
    return [
        CostComparison(cost.what, range_text(cost.predicted, cost.unit), _actual(cost))
        for cost in compare_forecast(folder, state)
    ]


def range_text(expected: ForecastRange | None, unit: str) -> str:
    """``1m20s (1m10s to 1m35s)``; an empty string where nothing is expected.

    Args:
        expected: The forecast's middle and its interval.
        unit: ``s``, ``h``, ``B`` or nothing.
    """
    if expected is None:
        return ""
    low, middle, high = (quantity(value, unit) for value in (expected.low, expected.middle, expected.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def quantity(value: float, unit: str) -> str:
    """A number with its unit in words.

    Args:
        value: The number.
        unit: ``s`` for seconds, ``h`` for hours (less than one: minutes or seconds), ``B`` for bytes; any other unit
            is left out.
    """
    if unit == "s":
        return formatting.duration(value)
    if unit == "h":
        return f"{number(value)} h" if value >= 1 else formatting.duration(3600 * value)
    if unit == "B":
        return formatting.size(value)
    return f"{value:,.2f}"


def _actual(cost: ForecastComparison) -> str:
    return quantity(cost.actual, cost.unit) if cost.actual is not None else "not measured"
