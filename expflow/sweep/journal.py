"""A trial's own notes of what it reported, for the reports that a driver did not live to record.

Ranks run on for a moment after their driver was killed, and some run ahead of it. A checkpoint may so be newer than
the last report in the ledger, and a trial that goes on from it would never have reported what came before. Each report
is therefore also written into the trial's folder, before it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from expflow.errors import StorageUnwritable
from expflow.events import Reported

FILE = "reports.jsonl"


@dataclass(frozen=True)
class Journal:
    """The notes of ``trial`` in ``folder``."""

    trial: str
    folder: Path

    def note(self, attempt: int, step: int, metrics: Mapping[str, float], progress: float) -> None:
        """Write a report down. Raises StorageUnwritable."""
        line = json.dumps({"attempt": attempt, "step": step, "metrics": dict(metrics), "progress": progress})
        try:
            with (self.folder / FILE).open("ab", buffering=0) as file:
                file.write(f"{line}\n".encode())
        except OSError as error:
            raise StorageUnwritable(f"{self.folder / FILE} cannot be written: {error.strerror or error}") from error

    def between(self, after: int, last: int) -> list[Reported]:
        """The reports of the steps after ``after`` up to ``last``, in order; of a step that was reached twice, the
        later one. A line that its writer did not finish is left out."""
        try:
            lines = (self.folder / FILE).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found: dict[int, Reported] = {}
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if after < said["step"] <= last:
                found[said["step"]] = Reported(
                    self.trial, said["attempt"], said["step"], said["metrics"], said["progress"]
                )
        return [found[step] for step in sorted(found)]
