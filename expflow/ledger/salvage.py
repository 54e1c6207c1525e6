"""Going on from what is whole of a damaged ledger, at its user's word.

Nothing is thrown away: the ledger as it was is kept beside it, as ``ledger.damaged-1``, ``-2``, …
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from expflow.errors import LedgerDamaged, LedgerTooNew, SealDamaged, StorageUnwritable
from expflow.events import Event, SplitEvaluated, TrialEnded
from expflow.files import fsync_path, write_atomically
from expflow.ledger.lock import DriverLock
from expflow.ledger.reader import read, segments_of
from expflow.ledger.records import decode


@dataclass(frozen=True)
class SalvagedLedger:
    """What became of a damaged ledger.

    Attributes:
        problem: What was wrong, in words.
        copy: The folder that holds the ledger as it was.
        segment: The last segment that was kept, from 1; 0 where nothing was whole.
        lines: The lines that were kept of it; 0 where it is kept whole.
        lost_trials: Trials whose end stands in the copy alone.
        lost_evaluations: Evaluations on the test split that stand in the copy alone. They go on to count.
    """

    problem: str
    copy: Path
    segment: int
    lines: int
    lost_trials: int = 0
    lost_evaluations: int = 0

    def __str__(self) -> str:
        name = f"{self.segment:06d}.jsonl"
        end = f"line {self.lines} of {name}" if self.lines else name
        kept = f"goes on behind {end}" if self.segment else "begins anew"
        lost = [
            f"{count} {what}{'' if count == 1 else 's'}"
            for count, what in ((self.lost_trials, "ended trial"), (self.lost_evaluations, "evaluation on test"))
            if count
        ]
        cut = f". Cut off: {' and '.join(lost)}" if lost else ""
        first = self.problem.partition(". ")[0]
        return f"{first}; the ledger {kept}, and as it was it lies in {self.copy}{cut}"


def salvage(folder: Path) -> SalvagedLedger | None:
    """Cut a damaged ledger behind its last whole line; None where it is not damaged.

    A kill at any moment leaves a ledger that can be salvaged again, and the copy whole.

    Args:
        folder: The experiment's folder.

    Raises:
        LedgerLocked: A driver works on it.
        LedgerDamaged: The damage is of a kind for which nobody can say what is whole.
        LedgerTooNew: A newer expflow wrote it: it is whole.
        StorageUnwritable: The copy cannot be written, or the ledger cannot be changed.
    """
    if not segments_of(folder).folder.is_dir():
        return None
    try:
        lock = DriverLock.take(segments_of(folder).folder)
    except OSError as error:
        raise StorageUnwritable(f"{error.filename or folder} cannot be written: {error.strerror or error}") from error
    try:
        return _salvaged(folder)
    finally:
        lock.give_back()


def _salvaged(folder: Path) -> SalvagedLedger | None:
    """As :func:`salvage`, by the ledger's only driver."""
    ledger, problems, copy = segments_of(folder).folder, [], None
    segment, lines = 0, 0
    while (error := _first_damage(folder)) is not None:
        problems.append(str(error))
        copy = copy or _copied(ledger)
        if isinstance(error, SealDamaged) and error.seal is not None:
            error.seal.unlink()
            segment, lines = max(segments_of(folder).numbers(), default=0), 0
            continue
        if error.whole is None:
            raise error
        segment, lines, size = error.whole
        _cut(ledger, segment, size)
        segment = segment if size else max(0, segment - 1)
    if copy is None:
        return None
    # Followers that have read further than the cut begin again; what they have done already they do not do twice.
    (folder / "tracking" / "cursor.json").unlink(missing_ok=True)
    trials, evaluations = _ended(folder)
    copied = list(cut_events(folder, only=copy))
    lost = {event.trial for event in copied if isinstance(event, TrialEnded)} - trials
    looked = {event.when for event in copied if isinstance(event, SplitEvaluated)} - evaluations
    return SalvagedLedger(problems[0], copy, segment, lines, len(lost), len(looked))


def _first_damage(folder: Path) -> LedgerDamaged | None:
    try:
        for _ in read(folder):
            pass
    except LedgerDamaged as error:
        return error
    return None


def _ended(folder: Path) -> tuple[set[str], set[str]]:
    """The trials whose end a ledger holds, and when test evaluations were made."""
    events = [record.body for record in read(folder)]
    trials = {event.trial for event in events if isinstance(event, TrialEnded)}
    return trials, {event.when for event in events if isinstance(event, SplitEvaluated)}


def cut_events(folder: Path, only: Path | None = None) -> Iterator[Event]:
    """The events that copies of damaged ledgers hold, as far as their lines read.

    Some of them stand in the ledger, too. A record that somebody has seen goes on to count although it was cut off.

    Args:
        folder: The experiment's folder.
        only: The only copy that is looked at; by default all.
    """
    for copy in [only] if only is not None else sorted(folder.glob("ledger.damaged-*")):
        for path in sorted(copy.glob("[0-9]*.jsonl")):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, LedgerTooNew):
                    body = decode(line).body
                    if isinstance(body, Event):
                        yield body


def _copied(ledger: Path) -> Path:
    """A copy of the ledger's folder, whole and on the disk. Raises StorageUnwritable, and leaves nothing then."""
    copy = next(path for number in count(1) if not (path := ledger.with_name(f"ledger.damaged-{number}")).exists())
    draft = ledger.with_name(f".{copy.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(ledger, draft)
        for path in (*sorted(draft.iterdir()), draft):
            fsync_path(path)
        draft.rename(copy)
        fsync_path(copy.parent)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise StorageUnwritable(
            f"{copy} cannot be written: {error.strerror or error}. The damaged ledger is as it was; make room (or mend "
            "the disk or its permissions), then give the same command again"
        ) from error
    return copy


def _cut(ledger: Path, segment: int, size: int) -> None:
    """Keep the first ``size`` bytes of a segment, and nothing of what comes after it: newest first, so that a kill in
    between leaves no gap."""
    kept = segment if size else segment - 1
    last = max((int(path.name.partition(".")[0]) for path in ledger.glob("[0-9]*.json*")), default=0)
    for number in range(last, kept, -1):
        for path in (ledger / f"{number:06d}.seal.json", ledger / f"{number:06d}.jsonl"):
            path.unlink(missing_ok=True)
    if size:
        path = ledger / f"{segment:06d}.jsonl"
        (ledger / f"{segment:06d}.seal.json").unlink(missing_ok=True)
        if path.stat().st_size != size:
            write_atomically(path, path.read_bytes()[:size], durable=True)
    fsync_path(ledger)
