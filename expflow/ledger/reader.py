"""Reading a ledger: all of it, or what came after a cursor.

Only one thing is forgiven: a last line of a segment that was never finished, because its writer was killed in the
middle of it. It is left out and said. Everything else that does not read is an error with file and line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from expflow.events import Event
from expflow.ledger.header import Header
from expflow.ledger.records import Cursor, Record, Torn, damaged, decode
from expflow.ledger.segments import LocalSegments, Segments
from expflow.ledger.state import SweepState, fold

FOLDER = "ledger"
"""The ledger's folder inside an experiment's folder."""


def segments_of(folder: Path) -> LocalSegments:
    """The segments of the experiment folder ``folder``."""
    return LocalSegments(folder / FOLDER)


def exists(folder: Path) -> bool:
    """Whether the experiment folder ``folder`` holds a ledger with at least one segment."""
    return bool(segments_of(folder).numbers())


def read(folder: Path, *, after: Cursor | None = None, torn: list[Torn] | None = None) -> Iterator[Record]:
    """The records of the experiment folder ``folder``, in the order they were written.

    ``after`` goes on behind a record that was read earlier, without reading what lies before it; a ledger that is
    being written can so be followed. ``torn`` collects the unfinished last lines that were left out (the newest
    segment's may be in the middle of being written). No folder means no records.
    Raises LedgerDamaged, naming file and line, for anything else that does not read.
    """
    after = after or Cursor()
    # The list is taken before the first segment is read: what has a successor in it is closed, so nothing can be
    # missed between reading its end and going on.
    segments = segments_of(folder)
    for number in segments.numbers():
        if number >= after.segment:
            yield from _read_segment(segments, number, after if number == after.segment else Cursor(number), torn)


def load(folder: Path, *, torn: list[Torn] | None = None) -> SweepState:
    """What the ledger of ``folder`` adds up to. Errors and ``torn`` as in :func:`read`."""
    return fold((record.at, record.body) for record in read(folder, torn=torn))


def last_time(folder: Path) -> float:
    """When the newest whole record was written (unix seconds); 0.0 without one."""
    segments = segments_of(folder)
    for number in reversed(segments.numbers()):
        with segments.open(number) as file:
            whole = deque((line for line in file if line.endswith(b"\n") and b"\0" not in line), maxlen=1)
        if whole:
            return _decoded(segments.path(number), 0, whole[0])[0]
    return 0.0


def last_epoch(folder: Path) -> int:
    """The epoch of the newest driver that wrote a header; 0 without one."""
    segments = segments_of(folder)
    for number in reversed(segments.numbers()):
        for record in _read_segment(segments, number, Cursor(number), None):
            return int(record.body.driver["epoch"]) if isinstance(record.body, Header) else 0
    return 0


def _read_segment(segments: Segments, number: int, start: Cursor, torn: list[Torn] | None) -> Iterator[Record]:
    path, line_number, offset = segments.path(number), start.line, start.offset
    with segments.open(number) as file:
        file.seek(offset)
        for line in file:
            line_number += 1
            zeros = b"\0" in line  # what a power cut can leave where the last line should be
            if zeros and line.endswith(b"\n") and file.read(1):
                raise damaged(path, line_number, "it holds zero bytes")
            if zeros or not line.endswith(b"\n"):
                if torn is not None:
                    torn.append(Torn(path, line_number, offset, len(line)))
                return
            offset += len(line)
            yield _record(path, number, line_number, offset, line)


def _record(path: Path, number: int, line_number: int, offset: int, line: bytes) -> Record:
    at, body = _decoded(path, line_number, line)
    if isinstance(body, Header) != (line_number == 1):
        raise damaged(path, line_number, "a segment begins with a header, and has only one")
    return Record(number, line_number, at, body, offset)


def _decoded(path: Path, line_number: int, line: bytes) -> tuple[float, Header | Event]:
    try:
        return decode(line)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, line_number, str(error)) from error
