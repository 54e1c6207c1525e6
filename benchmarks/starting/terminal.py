"""Commands typed on a terminal of their own, with all processes that they start."""

from __future__ import annotations

import compileall
import os
import pty
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import expflow as package

MARK = "COLD_START_RUN"
"""Variable by which all processes of one call are known, whoever their parent is by now."""

FOLLOWER = b"expflow.tracking.follower"
WATCH_SECONDS = 0.05
PATIENCE_SECONDS = 120.0


@dataclass
class Processes:
    """All processes of one call, by a mark in their environment, and their CPU time.

    Attributes:
        mark: The mark.
    """

    mark: str
    _known: dict[tuple[int, str], bool] = field(default_factory=dict)
    _cpu: dict[tuple[int, str], float] = field(default_factory=dict)

    def alive(self) -> dict[int, bytes]:
        """Process id -> command line of those that are there."""
        there = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                key = int(entry.name), fields[19]
                if key not in self._known:
                    self._known[key] = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
                if not self._known[key]:
                    continue
                self._cpu[key] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                if fields[0] not in "ZX":
                    there[key[0]] = (entry / "cmdline").read_bytes()
            except OSError:  # it has just ended, or is another user's
                continue
        return there

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all that were seen."""
        return sum(self._cpu.values())


@dataclass
class Call:
    """One command, from Enter to the prompt, and what came after it.

    Attributes:
        begun: When it was typed (unix seconds).
        seconds: Until the prompt was back.
        until_gone: From then until no process was left but MLflow's follower.
        cpu: CPU seconds of all its processes.
        output: What it printed.
    """

    begun: float
    seconds: float
    until_gone: float
    cpu: float
    output: str


def typed(command: Sequence[str], folder: Path, *, environment: dict[str, str] | None = None, code: int = 0) -> Call:
    """Type a command on a terminal of its own, and wait until all its processes have ended."""
    mark = secrets.token_hex(8)
    processes, over = Processes(mark), threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            processes.alive()

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.time()
    process, output = _on_a_terminal(command, folder, {**os.environ, **(environment or {}), MARK: mark})
    seconds = time.time() - begun
    if process != code:
        over.set()
        raise SystemExit(f"{' '.join(command)} ended with exit code {process}:\n{output}")
    ended = time.monotonic()
    until_gone, give_up = None, ended + PATIENCE_SECONDS
    while left := processes.alive():
        if until_gone is None and all(FOLLOWER in line for line in left.values()):
            until_gone = time.monotonic() - ended
        if time.monotonic() > give_up:
            raise SystemExit(f"{' '.join(command)} left processes behind: {left}")
        time.sleep(WATCH_SECONDS)
    over.set()
    watcher.join()
    gone = time.monotonic() - ended if until_gone is None else until_gone
    return Call(begun, seconds, gone, processes.cpu_seconds, output)


def _on_a_terminal(command: Sequence[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    read = bytearray()

    def drain() -> None:
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the terminal's other side is closed
                return
            if not block:
                return
            read.extend(block)

    with subprocess.Popen(
        command, cwd=folder, env=environment | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        code = process.wait()
    reader.join(1.0)
    os.close(ours)
    return code, read.decode(errors="replace")


def expflow(*words: str) -> list[str]:
    """The command line of expflow, by this Python."""
    return [sys.executable, "-m", "expflow", *words]


def fresh(folder: Path, name: str, text: str) -> Path:
    """A new folder with one file in it; the data that experiments prepare are shared by all."""
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / name).write_text(text)
    return place


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None) -> None:
    """Wait for something, as long as a process runs."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > give_up or (process is not None and process.poll() is not None):
            raise SystemExit("what was waited for did not come")
        time.sleep(0.02)


def wait_for_quiet() -> None:
    """Until no process of Ray's is left on this machine."""
    until(lambda: not any(_is_ray(entry) for entry in Path("/proc").iterdir()), None)


def _is_ray(entry: Path) -> bool:
    try:
        command = (entry / "cmdline").read_bytes()
    except OSError:
        return False
    return command.startswith(b"ray::") or b"/ray/core/src/ray/" in command


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for everything; a short path, since Ray's and our sockets lie below it.

    expflow and its peers are compiled before, as an installation does it: where PYTHONDONTWRITEBYTECODE is set, every
    process would compile again what has changed since.
    """
    for sources in (Path(package.__file__).parent, Path(__file__).parents[1]):
        compileall.compile_dir(sources, quiet=1)
    with tempfile.TemporaryDirectory(prefix="xc-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
