"""How far an MLflow store has followed a ledger: kept beside the ledger, per store.

Losing the file costs a repetition that changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from expflow.errors import LedgerDamaged
from expflow.events import TrialReported
from expflow.files import write_atomically
from expflow.ledger import read
from expflow.ledger.reader import segments_of
from expflow.ledger.records import Cursor
from expflow.tracking.exported_models import read_exports
from expflow.tracking.store import sqlite_path

_STAMPS = ("pictures", "models", "provenance", "trouble")


class FollowerProgress:
    """How far a store was written, and which report it has; one file for all stores of a sweep.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self._path = folder / "tracking" / "cursor.json"
        self._key = hashlib.sha256(uri.encode()).hexdigest()[:16]  # an address can hold a password
        self._all = self._load()
        mine = self._all.get(self._key, {})
        self.cursor = Cursor(mine.get("segment", 0), mine.get("line", 0), mine.get("offset", 0))
        self.report: str = mine.get("report", "")
        self.trouble: str = mine.get("trouble", "")
        """Why the store did not take what it was given last; empty where it did."""
        self.pictures: dict[str, str] = dict(mine.get("pictures", {}))
        """Trial -> the files, and when they were written, that its run has."""
        self.provenance: str = mine.get("provenance", "")
        """The stamp of the files about the newest driver that the sweep's run has."""
        self.models: dict[str, str] = dict(mine.get("models", {}))
        """Trial -> the stamp of the export that the store was told of."""

    def save(self, cursor: Cursor, *, report: str | None = None, trouble: str = "") -> None:
        """Note that the store was written up to here.

        Args:
            cursor: How far the ledger was read and written.
            report: The stamp of the report that the store was given; None leaves it as it was.
            trouble: Why it does not take more.
        """
        self.trouble = trouble
        self.cursor, self.report = cursor, self.report if report is None else report
        more = {key: stamps for key in _STAMPS if (stamps := getattr(self, key))}
        self._all[self._key] = {**asdict(cursor), "report": self.report, **more}
        write_atomically(self._path, json.dumps(self._all).encode())

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            progress = json.loads(self._path.read_text())
        except (OSError, ValueError):  # nothing, or damaged: writing all again is harmless
            return {}
        return progress if isinstance(progress, dict) else {}


def is_behind(folder: Path, uri: str) -> bool:
    """Whether ledger, report, models or a trial's pictures have gone on since a store was written, or its file is gone.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.
    """
    file, cursor = sqlite_path(uri), folder / "tracking" / "cursor.json"
    if lag_bytes(folder, uri) != 0 or not cursor.exists() or (file is not None and not file.exists()):
        return True
    report, progress = folder / "report.html", FollowerProgress(folder, uri)
    if report.exists() and progress.report != str(report.stat().st_mtime_ns):
        return True
    if any(export.stamp != progress.models.get(trial) for trial, export in read_exports(folder).items()):
        return True
    pictures, saved = folder.glob("trials/*/pictures/*.png"), cursor.stat().st_mtime_ns
    return any(picture.stat().st_mtime_ns > saved for picture in pictures)


def trouble_of(folder: Path, uri: str) -> str:
    """Why a store did not take what its follower gave it last; empty where it did.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.
    """
    return FollowerProgress(folder, uri).trouble


def reports_behind(folder: Path, uri: str) -> int:
    """Number of reports in the ledger that a store was not given yet.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.

    Raises:
        LedgerDamaged: The ledger does not read.
    """
    records = read(folder, after=FollowerProgress(folder, uri).cursor)
    return sum(isinstance(record.body, TrialReported) for record in records)


def lag_bytes(folder: Path, uri: str) -> int | None:
    """Bytes of a ledger that a store was not given yet.

    Args:
        folder: The experiment's folder.
        uri: The address of the MLflow store.

    Returns:
        The bytes; None where the ledger cannot be looked at.
    """
    cursor, segments = FollowerProgress(folder, uri).cursor, segments_of(folder)
    try:
        sizes = {number: segments.path(number).stat().st_size for number in segments.numbers()}
    except (OSError, LedgerDamaged):
        return None
    behind = sum(size for number, size in sizes.items() if number > cursor.segment)
    return behind + max(0, sizes.get(cursor.segment, cursor.offset) - cursor.offset)
