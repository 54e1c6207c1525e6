"""What the parts of a header hold, as far as reports rely on it: searched dimensions, figures, contrasts and data."""

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


@dataclass(frozen=True)
class RecordedDataSpec:
    """What networks know of the data; see :class:`expflow.data.dataspec.DataSpec`."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[Any] = ()
    samples: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedData:
    """The data that a sweep is made on."""

    source: str = ""
    key: str = ""
    manifest: str = ""
    root: str = ""
    bytes: int = 0
    spec: Mapping[str, Any] | None = None
    samples: Mapping[str, int] | None = None
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class RecordedObjective:
    """A metric that the sweep is judged by."""

    metric: str
    mode: str


def check_entries(
    space: Sequence[Mapping[str, Any]],
    report: Mapping[str, Any],
    data: Mapping[str, Any],
    objectives: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Require that the entries of a header's lists and mappings are what reports take them for.

    Args:
        space: The header's ``space``.
        report: The header's ``report``.
        data: The header's ``data``.
        objectives: The header's ``objectives``.

    Raises:
        TypeError: A field is missing, or is not of its type. AttributeError where an entry is no mapping.
    """
    lists = (
        (RecordedDimension, space),
        (RecordedObjective, objectives),
        (RecordedFigure, report.get("figures", ())),
        (RecordedContrast, report.get("contrasts", ())),
    )
    for cls, entries in lists:
        for entry in entries:
            cls(**checked_fields(cls, entry))
    recorded = RecordedData(**checked_fields(RecordedData, data))
    RecordedDataSpec(**checked_fields(RecordedDataSpec, recorded.spec or {}))
