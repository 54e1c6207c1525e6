"""A trial's own record of what it reported, for the reports that no driver has recorded.

Ranks run on for a moment after their driver was killed, and some run ahead of it. A checkpoint may so be newer than
the last report in the ledger, and a trial that goes on from it would never have reported what came before. Each report
is therefore also written into the trial's folder, before it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.errors import StorageUnwritable
from expflow.events import TrialReported

FILE = "reports.jsonl"


@dataclass(frozen=True)
class ReportJournal:
    """The reports of one trial in a file of its folder, one a line.

    Attributes:
        trial: The trial's id.
        folder: The trial's folder.
    """

    trial: str
    folder: Path

    def write(
        self, attempt: int, step: int, metrics: Mapping[str, float], progress: float, missing: Sequence[str] = ()
    ) -> None:
        """Append a report.

        Args:
            attempt: Number of the attempt.
            step: Optimizer step.
            metrics: Metric's name -> value.
            progress: Share of the trial's budget that is spent, 0 to 1.
            missing: Metrics that were no finite number.

        Raises:
            StorageUnwritable: The file cannot be written.
        """
        report = {"attempt": attempt, "step": step, "metrics": dict(metrics), "progress": progress}
        line = json.dumps({**report, "missing": list(missing)} if missing else report)
        try:
            with (self.folder / FILE).open("ab", buffering=0) as file:
                file.write(f"{line}\n".encode())
        except OSError as error:
            raise StorageUnwritable(f"{self.folder / FILE} cannot be written: {error.strerror or error}") from error

    def between(self, after: int, last: int) -> list[TrialReported]:
        """The reports of some steps in order; of a step that was reached twice, the later one.

        A line that its writer did not finish is left out.

        Args:
            after: The step after which they begin.
            last: The last step.
        """
        try:
            lines = (self.folder / FILE).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        reports: dict[int, TrialReported] = {}
        for line in lines:
            try:
                report = json.loads(line)
            except ValueError:
                continue
            if after < report["step"] <= last:
                reports[report["step"]] = TrialReported(
                    self.trial,
                    report["attempt"],
                    report["step"],
                    report["metrics"],
                    report["progress"],
                    report.get("missing", []),
                )
        return [reports[step] for step in sorted(reports)]
