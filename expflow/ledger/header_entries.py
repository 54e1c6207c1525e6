"""What the lists in a header hold, as far as reports rely on it: searched dimensions, figures and contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from expflow.field_types import checked_fields


@dataclass(frozen=True)
class RecordedDimension:
    """A searched key; see :class:`expflow.config.schema.Dimension`."""

    key: str
    kind: str = "choice"
    values: Sequence[Any] = ()
    low: float | None = None
    high: float | None = None
    when: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedFigure:
    """A declared figure; see :class:`expflow.config.report_settings.Figure`."""

    x: str
    y: str
    line: str | None = None


@dataclass(frozen=True)
class RecordedContrast:
    """A declared contrast; see :class:`expflow.config.report_settings.Contrast`."""

    metric: str
    of: Mapping[str, Any]
    against: Mapping[str, Any]
    expect: str
    where: Mapping[str, Any] = field(default_factory=dict)
    margin: float | None = None
    by: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tuned_over: Sequence[str] = ()


def check_entries(space: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> None:
    """Require that the entries of a header's lists are what reports take them for.

    Args:
        space: The header's ``space``.
        report: The header's ``report``.

    Raises:
        TypeError: A field is missing, or is not of its type. AttributeError where an entry is no mapping.
    """
    lists = (
        (RecordedDimension, space),
        (RecordedFigure, report.get("figures", ())),
        (RecordedContrast, report.get("contrasts", ())),
    )
    for cls, entries in lists:
        for entry in entries:
            cls(**checked_fields(cls, entry))
