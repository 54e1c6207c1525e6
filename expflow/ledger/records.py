"""One ledger line: how it is written, checked and read back.

A line is one JSON object: ``{"at": unix seconds, "event": …, …, "crc": "8 hex digits"}``. ``crc`` is the CRC-32 of the
line without it, because a flipped bit in a number is still a number. JSON has no NaN and no infinity, yet a diverged
loss has both, so they are stored as ``{"$float": "nan"}`` and come back as what they were.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.errors import LedgerDamaged
from expflow.events import EVENTS, Event, from_json
from expflow.ledger.header import LEDGER_FORMAT, Header

_CRC_BYTES = len(b',"crc":"00000000"}')
_FLOAT = "$float"


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
class Torn:
    """A last line that was never finished, because its writer died; ``offset`` and ``length`` are in bytes."""

    path: Path
    line: int
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: the last record was not finished and is left out ({self.length} bytes)"


def encode(at: float, body: Header | Event) -> bytes:
    """The line that stores ``body``, newline included. Raises TypeError for what is not plain data."""
    data = {"at": round(at, 6), **body.to_json()}
    try:
        text = _dumps(data)
    except ValueError:  # a NaN or an infinity; looked for only now because almost no line has one
        text = _dumps(_tagged(data))
    line = text.encode()
    return line[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(line)


def decode(line: bytes) -> tuple[float, Header | Event]:
    """The time and the body of a whole line. Raises ValueError with the reason when it is not one of ours."""
    line = line.rstrip(b"\n")
    body, crc = line[:-_CRC_BYTES] + b"}", line[-_CRC_BYTES:]
    if crc != b',"crc":"%08x"}' % zlib.crc32(body):
        raise ValueError("its checksum does not fit its content")
    data = json.loads(body, object_hook=_untagged if b'"$float"' in body else None)
    if data["event"] == "header":
        if data["format"] > LEDGER_FORMAT:
            raise ValueError(f"ledger format {data['format']} is newer than this expflow's ({LEDGER_FORMAT})")
        return data["at"], Header.from_json(data)
    if data["event"] not in EVENTS:
        raise ValueError(f"the event {data['event']!r} is unknown to this expflow; a newer one wrote it")
    return data["at"], from_json(data)


def damaged(path: Path, line: int, reason: str) -> LedgerDamaged:
    """The error for a record that cannot be read, with what to do about it."""
    return LedgerDamaged(
        f"{path}:{line}: this record of the ledger does not read: {reason}. Restore the file from a copy, or start "
        "afresh with --fresh; nothing was left out silently"
    )


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
        return {key: _tagged(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_tagged(each) for each in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    return value


def _untagged(data: dict[str, Any]) -> Any:
    return float(data[_FLOAT]) if data.keys() == {_FLOAT} else data
