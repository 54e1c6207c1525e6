"""Reports of one trial in columns: a sixth of the memory that as many objects take, and quickly read.

A report becomes an object again when somebody asks for it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, overload

from expflow.events import TrialReported

_MOST_KINDS = 2**16
_LARGEST_STEP = 2**63 - 1


class ReportColumns(Sequence[TrialReported]):
    """Reports of one attempt of a trial, in their order.

    Args:
        trial: The trial's id.
        attempt: The attempt's number, from 1.
    """

    __slots__ = ("_kinds", "_names", "_progress", "_starts", "_steps", "_values", "attempt", "trial")

    def __init__(self, trial: str, attempt: int) -> None:
        self.trial, self.attempt = trial, attempt
        self._names: list[tuple[str, ...]] = []
        """The sets of metrics that its reports have, each in its order."""
        self._kinds = array("H")
        """Which of these sets each report has."""
        self._steps, self._progress, self._values = array("q"), array("d"), array("d")
        self._starts: list[int] = []
        """Where each report's values begin; empty until it is asked for."""

    def takes(self, report: TrialReported) -> bool:
        """Whether a report can stand here and come back as it was.

        Args:
            report: The report that comes next.
        """
        return (
            report.attempt == self.attempt
            and not report.missing
            and type(report.step) is int
            and abs(report.step) <= _LARGEST_STEP
            and type(report.progress) is float
            and all(type(value) is float for value in report.metrics.values())
            and len(self._names) < _MOST_KINDS
        )

    def append(self, report: TrialReported) -> None:
        """Add a report that :meth:`takes` has accepted.

        Args:
            report: The next report.
        """
        names = tuple(report.metrics)
        if names not in self._names:
            self._names.append(names)
        self._kinds.append(self._names.index(names))
        self._steps.append(report.step)
        self._progress.append(report.progress)
        self._values.extend(report.metrics.values())
        self._starts = []

    def have(self, metric: str) -> bool:
        """Whether any of the reports has a metric.

        Args:
            metric: A reported name with its split.
        """
        return any(metric in names for names in self._names)

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> TrialReported: ...

    @overload
    def __getitem__(self, index: slice) -> list[TrialReported]: ...

    def __getitem__(self, index: int | slice) -> TrialReported | list[TrialReported]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        names = self._names[self._kinds[place]]
        start = self._start(place)
        metrics = dict(zip(names, self._values[start : start + len(names)], strict=True))
        return TrialReported(self.trial, self.attempt, self._steps[place], metrics, self._progress[place])

    def _start(self, place: int) -> int:
        if len(self._names) == 1:
            return place * len(self._names[0])
        if not self._starts:
            self._starts = [0, *accumulate(len(self._names[kind]) for kind in self._kinds)]
        return self._starts[place]

    def __iter__(self) -> Iterator[TrialReported]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def to_json(self) -> dict[str, Any]:
        """What must be known to read :attr:`content`, as plain data."""
        return {"reports": self.trial, "attempt": self.attempt, "names": self._names, "count": len(self)}

    @property
    def content(self) -> bytes:
        """All numbers, in the byte order of this machine."""
        columns = (self._kinds, self._steps, self._progress, self._values)
        return b"".join(column.tobytes() for column in columns)

    @classmethod
    def from_content(cls, data: Mapping[str, Any], content: memoryview) -> tuple[ReportColumns, memoryview]:
        """The reports that :meth:`to_json` and :attr:`content` were made of, and what is left of the content.

        Args:
            data: What :meth:`to_json` gave.
            content: The numbers, and whatever follows them.

        Raises:
            ValueError: The content is shorter than the data say.
        """
        columns, count = cls(data["reports"], data["attempt"]), data["count"]
        columns._names = [tuple(names) for names in data["names"]]
        content = _fill(columns._kinds, count, content)
        content = _fill(columns._steps, count, content)
        content = _fill(columns._progress, count, content)
        widths = [len(names) for names in columns._names]
        values = count * widths[0] if len(widths) == 1 else sum(widths[kind] for kind in columns._kinds)
        return columns, _fill(columns._values, values, content)


def in_columns(reports: Sequence[TrialReported]) -> Sequence[TrialReported]:
    """The same reports in columns, where they can stand there; else as they are.

    Args:
        reports: Reports of one trial, in their order.
    """
    if isinstance(reports, ReportColumns) or not reports:
        return reports
    columns = ReportColumns(reports[0].trial, reports[0].attempt)
    for report in reports:
        if not columns.takes(report):
            return reports
        columns.append(report)
    return columns


def _fill(column: array[Any], count: int, content: memoryview) -> memoryview:
    size = count * column.itemsize
    if len(content) < size:
        raise ValueError("numbers are missing")
    column.frombytes(content[:size])
    return content[size:]
