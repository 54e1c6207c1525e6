"""Reading a ledger: all of it, or what came after a cursor.

Only one kind of damage is accepted: a last line of a segment that was never finished, because its writer was killed in
the middle of it, and what a driver that had lost its lock wrote behind the end of a sealed segment. Both are left out
and reported. Everything else that does not read, is out of order or is missing, is an error with file and line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expflow.errors import LedgerDamaged, LedgerTooNew, SealDamaged
from expflow.events import Event
from expflow.garbage import nothing_collected
from expflow.ledger.header import Continuation, Header, epoch_of
from expflow.ledger.records import Cursor, DecodedLine, Line, Record, TornRecord, damaged, decode
from expflow.ledger.seal import DigestCounter, SegmentDigest
from expflow.ledger.segments import LocalSegments, Segments
from expflow.ledger.state import StateLine, SweepState, fold
from expflow.ledger.summary import SUMMARIZED_BYTES, SegmentSummary, condense

FOLDER = "ledger"
"""The ledger's folder inside an experiment's folder."""


def segments_of(folder: Path) -> LocalSegments:
    """The segments of an experiment's ledger.

    Args:
        folder: The experiment's folder.
    """
    return LocalSegments(folder / FOLDER)


def exists(folder: Path) -> bool:
    """Whether an experiment has a ledger with at least one segment.

    Args:
        folder: The experiment's folder.
    """
    try:
        return bool(segments_of(folder).numbers())
    except LedgerDamaged:  # one is missing, so there are others
        return True


def read(folder: Path, *, after: Cursor | None = None, torn: list[TornRecord] | None = None) -> Iterator[Record]:
    """The records of an experiment's ledger, in the order they were written. No folder means no records.

    Args:
        folder: The experiment's folder.
        after: Go on behind a record that was read earlier, without reading what lies before it; a ledger that is being
            written can so be followed.
        torn: Collects the unfinished last lines that were left out (the newest segment's may be in the middle of being
            written).

    Raises:
        LedgerDamaged: Anything else does not read or is missing; the message names file and line.
        LedgerTooNew: A newer expflow wrote it.
    """
    after = after or Cursor()
    # The list is taken before the first segment is read: what has a successor in it is closed, so nothing can be
    # missed between reading its end and going on.
    segments = segments_of(folder)
    digests: dict[int, SegmentDigest] = {}
    numbers, missing = _present(segments)
    for number in numbers:
        if number >= after.segment:
            start = after if number == after.segment else Cursor(number)
            reader = _SegmentReader(segments, number, start, digests, [] if torn is None else torn)
            yield from reader.records()
    if missing is not None:
        raise missing


def condensed(folder: Path, *, torn: list[TornRecord] | None = None) -> Iterator[tuple[float, StateLine]]:
    """What a state needs of an experiment's ledger, with the time of each line in unix seconds.

    Large segments that are sealed are read from their summaries, which are written where they are missing. As with
    :func:`read`, what a segment holds is held against its seal, and against what later headers say of it.

    Args:
        folder: The experiment's folder.
        torn: Collects the unfinished last lines that were left out.

    Raises:
        LedgerDamaged: Anything else does not read or is missing; the message names file and line.
        LedgerTooNew: A newer expflow wrote it.
    """
    segments = segments_of(folder)
    numbers, missing = _present(segments)
    yield from _condensed(segments, numbers, [] if torn is None else torn)
    if missing is not None:
        raise missing


def _condensed(
    segments: LocalSegments, numbers: Sequence[int], torn: list[TornRecord]
) -> Iterator[tuple[float, StateLine]]:
    digests: dict[int, SegmentDigest] = {}
    # A thread reads and hashes, without Python's lock, while this one makes objects of the summaries.
    beside = ThreadPoolExecutor(1, thread_name_prefix="ledger-digest")
    try:
        ahead = {number: beside.submit(segments.digest, number) for number in filter(segments.has_summary, numbers)}
        for number in numbers:
            reader = _SegmentReader(segments, number, Cursor(number), digests, torn)
            yield from reader.condensed(ahead.pop(number, None))
    finally:
        beside.shutdown(cancel_futures=True)


def _present(segments: Segments) -> tuple[Sequence[int], LedgerDamaged | None]:
    """The numbers of the segments up to the first that is missing, and the error of that one."""
    try:
        return segments.numbers(), None
    except LedgerDamaged as error:
        if error.whole is None:
            raise
        return range(1, error.whole[0] + 1), error


def load_state(folder: Path, *, torn: list[TornRecord] | None = None) -> SweepState:
    """What an experiment's ledger adds up to.

    Args:
        folder: The experiment's folder.
        torn: Collects the unfinished last lines that were left out.

    Raises:
        LedgerDamaged: A record does not read or is missing; the message says how many trials what is whole still holds.
        LedgerTooNew: A newer expflow wrote it.
    """
    state = SweepState()
    try:
        with nothing_collected():  # a state keeps what it is made of
            return fold(condensed(folder, torn=torn), state)
    except SealDamaged:
        raise  # of what is whole it says nothing
    except LedgerDamaged as error:
        ended = sum(trial.ended for trial in state.trials.values())
        counted = LedgerDamaged(f"{error}. What is whole holds {len(state.trials)} trials, {ended} of them ended")
        counted.whole = error.whole
        raise counted from error


def unfinished_end(folder: Path) -> list[TornRecord]:
    """What the newest segment ends with and is no whole line: its writer was killed, or is in the middle of writing.

    Args:
        folder: The experiment's folder.

    Raises:
        LedgerDamaged: Something else does not read or is missing.
    """
    torn: list[TornRecord] = []
    segments = segments_of(folder)
    for _ in _condensed(segments, segments.numbers()[-1:], torn):
        pass
    return torn


def last_time(folder: Path) -> float:
    """When the newest whole record was written (unix seconds); 0.0 without one.

    Args:
        folder: The experiment's folder.
    """
    last = _last_line(folder)
    return last.at if last is not None else 0.0


def last_event(folder: Path) -> Event | None:
    """The newest whole record's event; None where there is no record, or a driver has only begun.

    Args:
        folder: The experiment's folder.
    """
    last = _last_line(folder)
    return last.body if last is not None and isinstance(last.body, Event) else None


def _last_line(folder: Path) -> DecodedLine | None:
    segments = segments_of(folder)
    for number in reversed(segments.numbers()):
        with segments.open(number) as file:
            whole = deque((line for line in file if line.endswith(b"\n") and b"\0" not in line), maxlen=1)
        if whole:
            return _decoded(segments.path(number), Cursor(number), whole[0])
    return None


def last_epoch(folder: Path) -> int:
    """The epoch of the newest driver that wrote a header; 0 without one.

    Args:
        folder: The experiment's folder.
    """
    segments = segments_of(folder)
    for number in reversed(segments.numbers()):
        first = first_line(segments, number)
        if first is not None:
            return epoch_of(first)
    return 0


def first_line(segments: Segments, number: int) -> Header | Continuation | None:
    """What a segment begins with; None where its writer died before the line was written whole.

    Args:
        segments: The ledger's segments.
        number: The segment's number, from 1.

    Raises:
        LedgerDamaged: The line is something else.
    """
    with segments.open(number) as file:
        line = file.readline()
    if not line.endswith(b"\n") or b"\0" in line:
        return None
    return _first(segments.path(number), number, _decoded(segments.path(number), Cursor(number), line).body)


@dataclass
class _SegmentReader:
    """Reads one segment from a cursor on, and holds it against its seal and against what later headers say of it.

    ``digests`` collects what the segments that were read whole hold.
    """

    segments: Segments
    number: int
    start: Cursor
    digests: dict[int, SegmentDigest]
    torn: list[TornRecord]
    whole: Cursor = field(init=False)
    """The end of what was read and is whole."""

    def __post_init__(self) -> None:
        self.path = self.segments.path(self.number)
        self.whole = self.start
        # Asked for before the segment is read: where there is a seal now, no line will be added.
        self.seal = self.segments.sealed(self.number)
        self.counter = DigestCounter(self.number)

    def records(self) -> Iterator[Record]:
        """The segment's records behind the cursor."""
        with self.segments.open(self.number) as file:
            file.seek(self.start.offset)
            limit = self.seal.bytes if self.seal is not None else None
            for line in file:
                if limit is not None and self.whole.offset + len(line) > limit:
                    self.counter.add(line[: limit - self.whole.offset])
                    self._leave_out(line + file.read())  # a driver that had lost its lock wrote behind the seal
                    break
                self.counter.add(line)
                zeros = b"\0" in line  # what a power cut can leave where the last line should be
                if zeros and line.endswith(b"\n") and file.read(1):
                    raise damaged(self.path, self.whole, "it holds zero bytes")
                if zeros or not line.endswith(b"\n"):
                    self._leave_out(line)
                    break
                decoded = self._decoded(line)
                self.whole = Cursor(self.number, self.whole.line + 1, self.whole.offset + len(line))
                if not isinstance(decoded.body, Continuation):
                    yield Record(self.number, self.whole.line, decoded.at, decoded.body, self.whole.offset)
        if self.start.offset == 0:
            self._check_digest()

    def condensed(self, digest: Future[SegmentDigest] | None) -> Iterator[tuple[float, StateLine]]:
        """What a state needs of the whole segment; its digest is already on its way where there is a summary."""
        if self.seal is None or self.seal.bytes < SUMMARIZED_BYTES:
            yield from ((record.at, record.body) for record in self.records())
            return
        if digest is not None and (summary := self._summary(self.seal, digest)) is not None:
            self._check_before(summary.before)
            self.digests[self.number] = self.seal
            yield from summary.lines
            return
        lines, left_out = [], len(self.torn)
        for line in condense(self.records()):
            lines.append(line)
            yield line
        first = first_line(self.segments, self.number)
        if first is not None and len(self.torn) == left_out:
            kept = SegmentSummary(self.seal, first.before, tuple(lines))
            self.segments.keep_summary(self.number, kept.to_bytes())

    def _summary(self, seal: SegmentDigest, digest: Future[SegmentDigest]) -> SegmentSummary | None:
        """The summary, where the segment is still what it was made of, and nothing stands behind its end."""
        content = self.segments.summary(self.number)
        summary = SegmentSummary.from_bytes(content, seal) if content is not None else None
        return summary if digest.result() == seal else None

    def _leave_out(self, content: bytes) -> None:
        self.torn.append(TornRecord(self.path, self.whole.line + 1, self.whole.offset, len(content)))

    def _decoded(self, line: bytes) -> DecodedLine:
        decoded = _decoded(self.path, self.whole, line)
        number = self.whole.line + 1
        if decoded.number not in (None, number):
            raise damaged(self.path, self.whole, f"a line that is numbered {decoded.number} stands at line {number}")
        if number == 1:
            self._check_before(_first(self.path, self.number, decoded.body).before)
        elif isinstance(decoded.body, Header | Continuation):
            raise damaged(self.path, self.whole, "a segment begins with a header, and has only one")
        return decoded

    def _check_before(self, before: Iterable[Mapping[str, Any]]) -> None:
        """Hold the segments before this one against the digests that its first line holds."""
        for recorded in self._digests_before(before):
            seen = self.digests.get(recorded.segment)
            if seen is not None and seen != recorded:
                raise self._differs(recorded, seen, f"{self.path.name} holds its digest")

    def _digests_before(self, before: Iterable[Mapping[str, Any]]) -> list[SegmentDigest]:
        try:
            return [SegmentDigest.from_json(entry) for entry in before]
        except (KeyError, TypeError) as error:
            reason = f"what it holds of the segments before it does not read ({error})"
            raise damaged(self.path, Cursor(self.number), reason) from error

    def _check_digest(self) -> None:
        self.digests[self.number] = seen = self.counter.digest()
        if self.seal is not None and seen != self.seal:
            raise self._differs(self.seal, seen, "its seal holds its digest")

    def _differs(self, recorded: SegmentDigest, seen: SegmentDigest, why: str) -> LedgerDamaged:
        path = self.segments.path(recorded.segment)
        if seen.lines < recorded.lines:
            text = f"of {recorded.lines} lines the first {seen.lines} are there ({why})"
            return damaged(path, Cursor(recorded.segment, seen.lines, _end_of_line(path, seen.lines)), text)
        return damaged(path, Cursor(recorded.segment), f"it is not what was written ({why})")


def _end_of_line(path: Path, lines: int) -> int:
    """The byte behind the first ``lines`` lines of a file."""
    with path.open("rb") as file:
        return sum(len(file.readline()) for _ in range(lines))


def _first(path: Path, number: int, body: Line) -> Header | Continuation:
    if not isinstance(body, Header | Continuation):
        raise damaged(path, Cursor(number), "a segment begins with a header, and has only one")
    return body


def _decoded(path: Path, whole: Cursor, line: bytes) -> DecodedLine:
    try:
        decoded = decode(line)
        if isinstance(decoded.body, Header | Continuation):
            epoch_of(decoded.body)
        return decoded
    except LedgerTooNew as error:
        raise LedgerTooNew(
            f"{path}:{whole.line + 1}: a newer expflow wrote this ledger: {error}. Update expflow, or use other storage"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, whole, str(error)) from error
