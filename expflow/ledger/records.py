"""One ledger line: how it is written, checked and read back.

A line is one JSON object: ``{"at": unix seconds, "n": line number, "event": …, …, "crc": "8 hex digits"}``. ``crc`` is
the CRC-32 of the line without it, because a flipped bit in a number is still a number. ``n`` counts the lines of a
segment from 1, so that a line that was taken out or moved is noticed (format 1 had none). JSON has no NaN and no
infinity, yet a diverged loss has both, so they are stored as ``{"$float": "nan"}`` and come back as what they were.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.errors import LedgerDamaged, LedgerTooNew
from expflow.event_kinds import EVENTS, from_json
from expflow.events import Event
from expflow.field_types import check_field_types
from expflow.ledger.header import LEDGER_FORMAT, Continuation, Header
from expflow.redaction import redacted_fields

_CRC_BYTES = len(b',"crc":"00000000"}')
_FLOAT = "$float"
_LATEST = 253_402_300_800.0
"""Unix seconds at the end of the year 9999, the last that a date can hold."""


@dataclass(frozen=True, order=True)
class Cursor:
    """A place in a ledger: just behind ``line`` of ``segment``, ``offset`` in bytes. The default is the beginning."""

    segment: int = 0
    line: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Record:
    """One line of a ledger. ``at`` is unix seconds, ``offset`` the byte just behind the line in its segment."""

    segment: int
    line: int
    at: float
    body: Header | Event
    offset: int

    @property
    def cursor(self) -> Cursor:
        """Where reading goes on behind this record."""
        return Cursor(self.segment, self.line, self.offset)


@dataclass(frozen=True)
class TornRecord:
    """A last line that was never finished, because its writer died; ``offset`` and ``length`` are in bytes."""

    path: Path
    line: int
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: the last record was not finished and is left out ({self.length} bytes)"


Line = Header | Continuation | Event
"""What a line of a segment may hold: the first one a header or a continuation, every other one an event."""


@dataclass(frozen=True)
class DecodedLine:
    """A line as it was read.

    Attributes:
        at: When it was written, in unix seconds.
        number: Its number in its segment, from 1; None in format 1.
        body: What it holds.
    """

    at: float
    number: int | None
    body: Line


def encode(at: float, number: int, body: Line) -> bytes:
    """The line that stores a header or an event, newline included.

    Args:
        at: When it is written, in unix seconds.
        number: The line's number in its segment, from 1.
        body: The header or event.

    Raises:
        TypeError: It holds what is not plain data.
    """
    data = {"at": round(at, 6), "n": number, **body.to_json()}
    try:
        text = _dumps(data)
    except ValueError:  # a NaN or an infinity; looked for only now because almost no line has one
        text = _dumps(_tagged(data))
    line = text.encode()
    return line[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(line)


def decode(line: bytes) -> DecodedLine:
    """What a whole line holds.

    Args:
        line: One line as it was written.

    Raises:
        ValueError: The line is not one of ours: its checksum is wrong, or it was written at no time.
        KeyError: A field is missing. Also TypeError.
        TypeError: A field is not of its type.
        RecursionError: It is nested too deeply.
        LedgerTooNew: A newer expflow wrote it.
    """
    line = line.rstrip(b"\n")
    body, crc = line[:-_CRC_BYTES] + b"}", line[-_CRC_BYTES:]
    if crc != b',"crc":"%08x"}' % zlib.crc32(body):
        raise ValueError("its checksum does not fit its content")
    data = json.loads(body, object_hook=_untagged if b'"$float"' in body else None)
    decoded = DecodedLine(data["at"], data.get("n"), _body(data))
    check_field_types(DecodedLine, {"at": decoded.at, "number": decoded.number})
    if not 0 <= decoded.at < _LATEST:
        raise ValueError(f"it was written at no time ({decoded.at:g})")
    return decoded


def _body(data: Mapping[str, Any]) -> Line:
    if data["event"] in ("header", "continued"):
        if data["format"] > LEDGER_FORMAT:
            raise LedgerTooNew(f"ledger format {data['format']} is newer than this expflow's ({LEDGER_FORMAT})")
        if data["event"] == "continued":
            return Continuation.from_json(data)
        return redacted_fields(Header.from_json(data))  # those of earlier versions may hold secrets
    if data["event"] not in EVENTS:
        raise LedgerTooNew(f"the event {data['event']!r} is unknown to this expflow")
    return from_json(data)


def damaged(path: Path, whole: Cursor, reason: str) -> LedgerDamaged:
    """The error for a ledger of which a part is damaged or missing, with what to do about it.

    Args:
        path: The file of the segment in which the damage is.
        whole: The end of what is whole before it.
        reason: What is wrong with the line behind ``whole``.
    """
    before = f"{path.name} is whole up to line {whole.line}" if whole.line else f"No line of {path.name} is whole"
    earlier = "; the files before it are whole" if whole.segment > 1 else ""
    error = LedgerDamaged(
        f"{path}:{whole.line + 1}: the ledger is damaged here: {reason}. {before}{earlier}. Restore the file from a "
        "copy; or give the sweep's command with --salvage, which goes on from what is whole and keeps the damaged "
        "files beside it; or with --fresh, which starts anew"
    )
    error.whole = whole.segment, whole.line, whole.offset
    return error


def _dumps(data: Mapping[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch know their plain Python value."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be stored in the ledger: {value!r}")


def _tagged(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tagged(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_tagged(entry) for entry in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    return value


def _untagged(data: dict[str, Any]) -> Any:
    return float(data[_FLOAT]) if data.keys() == {_FLOAT} else data
