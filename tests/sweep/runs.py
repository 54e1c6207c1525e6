"""Running real sweeps of scripted trials as a user does: by the command, in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from expflow.events import TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import Record, SweepState, exists, load_state, read

SCRIPTED = """
task:
  name: scripted
  script: [{{sleep: {sleep}}}, {{report: {{val/top1: curve}}, repeat: 2}}]
trainer: {{epochs: 2}}
resources: {{max_concurrent: 2}}
sweep:
  space: {{task.value: {values}}}
  seeds: {seeds}
  metric: val/top1
"""


@dataclass
class Workplace:
    """A folder with an experiment in it, and the command line that works there."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    python: tuple[str, ...] = (sys.executable,)
    """What runs the command."""
    variables: dict[str, str] = field(default_factory=dict)
    """What it finds in its environment besides."""

    def leave(self) -> None:
        """Kill what a failed test left behind."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    @property
    def results(self) -> Path:
        return self.folder / "runs" / "exp"

    def write(self, text: str, name: str = "exp.yaml") -> None:
        (self.folder / name).write_text(text)

    def scripted(self, values: list[float], *, seeds: int = 1, sleep: float = 0.0) -> None:
        self.write(SCRIPTED.format(values=values, seeds=seeds, sleep=sleep))

    def environment(self) -> dict[str, str]:
        tracking = f"sqlite:///{self.folder}/mlflow.db"
        cache = {"EXPFLOW_CACHE": str(self.folder / "cache"), "MLFLOW_TRACKING_URI": tracking}
        return {**os.environ, **cache, "COLUMNS": "200", **self.variables}

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.python, "-m", "expflow", *words],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *words: str, code: int = 0, timeout: float = 240) -> str:
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == code, output
        return output

    @staticmethod
    def descendants(pid: int, title: str) -> list[int]:
        """Processes under ``pid`` whose command line starts with ``title``."""
        parents, processes = {}, []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        for process in parents:
            ancestor = process
            while ancestor not in (pid, 0):
                ancestor = parents.get(ancestor, 0)
            with contextlib.suppress(OSError):
                if ancestor and Path(f"/proc/{process}/cmdline").read_bytes().decode().startswith(title):
                    processes.append(process)
        return processes

    def state(self) -> SweepState:
        return load_state(self.results)

    def records(self) -> list[Record]:
        return list(read(self.results)) if exists(self.results) else []

    def wait_for(self, kind: type, count: int, process: subprocess.Popen[str], seconds: float = 200) -> None:
        """Wait until the ledger holds ``count`` events of ``kind``."""
        self.wait_until(
            lambda: sum(isinstance(record.body, kind) for record in self.records()) >= count, process, seconds
        )

    def wait_until(self, condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 200) -> None:
        """Wait for whatever a condition asks for."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, process.communicate()[0]
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"what was waited for did not come: {self.counts()}\n{process.communicate()[0]}")
            time.sleep(0.1)

    def wait_for_gangs(self, count: int, process: subprocess.Popen[str], seconds: float = 200) -> None:
        """Wait until ``count`` gangs have begun a trial."""
        self.wait_until(lambda: len(self.gangs()) >= count, process, seconds)

    def gangs(self) -> set[str]:
        """The gangs that have begun a trial."""
        return {record.body.gang for record in self.records() if isinstance(record.body, TrialStarted)}

    def counts(self) -> dict[str, int]:
        kinds = {"proposed": TrialProposed, "started": TrialStarted, "reported": TrialReported, "ended": TrialEnded}
        return {name: sum(isinstance(record.body, kind) for record in self.records()) for name, kind in kinds.items()}
