"""The summary of a sealed segment: what a sweep's state needs of it, to be read in a fraction of the time.

Nothing of the state is lost. Reports stand in columns, in front of the next event of their trial; of several
checkpoints of a trial in a row the last one stands there; what a state does not look at is left out. Only the order
between different trials' reports is lost, which nothing but a scheduler follows from.

It is a cache that any reader writes and each checks: it names the digest of its segment, which the segment must still
have, and holds a digest of itself. One that does not fit, or that another version wrote, counts as none.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from expflow.event_kinds import from_json as event_from_json
from expflow.events import CheckpointPruned, CheckpointRefused, CheckpointSaved, SystemMeasured, TrialReported
from expflow.ledger.header import Header
from expflow.ledger.records import Record
from expflow.ledger.report_columns import ReportColumns
from expflow.ledger.seal import SegmentDigest
from expflow.ledger.state import StateLine

SUMMARY_FORMAT = 1
"""Goes up with every change of what stands in a summary, also where a state comes to need more of the events."""

SUMMARIZED_BYTES = 2**20
"""Segments from this size on get a summary; a smaller one is read as quickly itself."""

_NOT_LOOKED_AT = (SystemMeasured, CheckpointPruned, CheckpointRefused)
"""Events that add to a state that they were written, and when."""


@dataclass(frozen=True)
class SegmentSummary:
    """What a state needs of a segment.

    Attributes:
        digest: The segment that it is of.
        before: The digests of earlier segments that the segment's first line holds, as plain data.
        lines: Headers, events and reports in columns, each with its time in unix seconds.
    """

    digest: SegmentDigest
    before: tuple[Mapping[str, Any], ...]
    lines: tuple[tuple[float, StateLine], ...]

    def to_bytes(self) -> bytes:
        """The summary's file; :meth:`from_bytes` reads it back."""
        columns = [line for _, line in self.lines if isinstance(line, ReportColumns)]
        content = b"".join(column.content for column in columns)
        lines = [[at, line.to_json()] for at, line in self.lines]
        text = json.dumps({"before": self.before, "lines": lines}, separators=(",", ":")).encode()
        head = self._head(self.digest) | {"text": len(text), "sha256": hashlib.sha256(text + content).hexdigest()}
        return json.dumps(head).encode() + b"\n" + text + content

    @classmethod
    def from_bytes(cls, data: bytes, digest: SegmentDigest) -> SegmentSummary | None:
        """The summary that a file holds; None where it is none of this segment, of this version and this machine.

        Args:
            data: The file's content.
            digest: The segment's digest.
        """
        first, _, rest = data.partition(b"\n")
        try:
            head = json.loads(first)
            if cls._head(digest).items() - head.items() or head["sha256"] != hashlib.sha256(rest).hexdigest():
                return None
            facts = json.loads(rest[: head["text"]])
            return cls(digest, tuple(facts["before"]), tuple(_lines(facts["lines"], memoryview(rest)[head["text"] :])))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @staticmethod
    def _head(digest: SegmentDigest) -> dict[str, Any]:
        return {"summary": SUMMARY_FORMAT, "byteorder": sys.byteorder, "of": digest.sha256, "bytes": digest.bytes}


def _lines(lines: Iterable[tuple[float, Mapping[str, Any]]], content: memoryview) -> Iterator[tuple[float, StateLine]]:
    for at, data in lines:
        if "reports" in data:
            columns, content = ReportColumns.from_content(data, content)
            yield at, columns
        elif data["event"] == "header":
            yield at, Header.from_json(data)
        else:
            yield at, event_from_json(data)


class _Waiting:
    """What of one trial was read and not passed on: reports in a row, and the newest checkpoint."""

    def __init__(self) -> None:
        self.reports: tuple[float, ReportColumns] | None = None
        self.checkpoint: tuple[float, CheckpointSaved] | None = None

    def lines(self) -> Iterator[tuple[float, StateLine]]:
        """What waits, in the order of its times."""
        waiting: list[tuple[float, StateLine]] = [line for line in (self.reports, self.checkpoint) if line is not None]
        self.reports = self.checkpoint = None
        yield from sorted(waiting, key=lambda line: line[0])


def condense(records: Iterable[Record]) -> Iterator[tuple[float, StateLine]]:
    """What a state needs of a segment's records; the last line has the time of the last record.

    Args:
        records: The records of one segment.
    """
    waiting: dict[str, _Waiting] = {}
    last: tuple[float, StateLine] | None = None
    for record in records:
        body, last = record.body, None
        if isinstance(body, _NOT_LOOKED_AT):
            last = record.at, body
            continue
        trial = getattr(body, "trial", "")
        if isinstance(body, TrialReported):
            yield from _wait_with(waiting.setdefault(trial, _Waiting()), record.at, body)
        elif isinstance(body, CheckpointSaved):
            waiting.setdefault(trial, _Waiting()).checkpoint = record.at, body
        else:
            if trial in waiting:
                yield from waiting.pop(trial).lines()
            yield record.at, body
    left = [line for trial in waiting.values() for line in trial.lines()]
    yield from sorted(left, key=lambda line: line[0])
    if last is not None:
        yield last


def _wait_with(waiting: _Waiting, at: float, report: TrialReported) -> Iterator[tuple[float, StateLine]]:
    """Have a report wait with those before it; what must go first is passed on."""
    columns = waiting.reports[1] if waiting.reports is not None else ReportColumns(report.trial, report.attempt)
    if not columns.takes(report):
        yield from waiting.lines()
        columns = ReportColumns(report.trial, report.attempt)
        if not columns.takes(report):  # it has no finite value, for example
            yield at, report
            return
    columns.append(report)
    waiting.reports = at, columns
