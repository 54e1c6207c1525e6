"""Loaders in turn: each in a process that stays, one short pass after the other, so that a busy machine is fair."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from loading.pass_server import READY

HERE = Path(__file__).parent
PEERS = ("webdataset", "ImageFolder", "litdata", "mosaicml-streaming")
PACKAGES = ("torch>=2.15,<2.16", "torchvision>=0.29,<0.30", "webdataset", "litdata", "mosaicml-streaming")
COLUMNS = {"in_process": 0, "two_workers": 2}
OURS, MARKED = "expflow", "expflow with restart markers"


class LoaderProcess:
    """A loader in a process of its own, ``pinned`` to one core or not."""

    def __init__(self, command: list[str], *, pinned: bool) -> None:
        before = os.sched_getaffinity(0)
        self._command, self._errors = command, tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by leave()
        os.sched_setaffinity(0, {min(before)} if pinned else before)  # the child inherits it
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
            )
        finally:
            os.sched_setaffinity(0, before)

    def ready(self) -> None:
        """Wait for the end of the first pass, which is not timed. Raises SystemExit where there is none."""
        while self._line() != READY:
            pass

    def turn(self) -> float:
        """Images per second of one more pass."""
        self._pipe(self._process.stdin).write("\n")
        self._pipe(self._process.stdin).flush()
        result = json.loads(self._line())
        return float(result["images"] / result["seconds"])

    def leave(self) -> None:
        """End the process."""
        self._pipe(self._process.stdin).close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe(self._process.stdout).close()
        self._errors.close()

    def _line(self) -> str:
        if line := self._pipe(self._process.stdout).readline():
            return line.strip()
        self._process.wait()
        self._errors.seek(0)
        raise SystemExit(f"{' '.join(self._command)} failed:\n{self._errors.read()[-3000:]}")

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RuntimeError("the process was started without pipes")
        return pipe


def race(
    names: Sequence[str], images: Path, cache: Path, peers: Path | None, rounds: int, columns: Mapping[str, int]
) -> dict[str, dict[str, list[float]]]:
    """Column -> loader -> images per second in each of ``rounds``; ``peers``: the interpreter that has them."""
    rates: dict[str, dict[str, list[float]]] = {}
    for column, workers in columns.items():
        processes = {name: _loader_process(name, images, cache, peers, workers) for name in names}
        for process in processes.values():
            process.ready()
        rates[column] = {name: [] for name in processes}
        for number in range(rounds):
            for name, process in processes.items():
                rates[column][name].append(process.turn())
            line = ", ".join(f"{name} {values[-1]:.0f}" for name, values in rates[column].items())
            print(f"{column}, round {number + 1}: {line} images/s", flush=True)
        for process in processes.values():
            process.leave()
    return rates


def _loader_process(name: str, images: Path, cache: Path, peers: Path | None, workers: int) -> LoaderProcess:
    if name in (OURS, MARKED):
        marked = "marked" if name == MARKED else "as-they-are"
        command = [
            sys.executable,
            str(HERE / "expflow_loader.py"),
            str(images),
            str(cache),
            str(max(workers, 1)),
            marked,
        ]
    else:
        command = [str(peers), str(HERE / "peer_loaders.py"), name, str(images), str(cache / "peers"), str(workers)]
    return LoaderProcess(command, pinned=workers == 0)


def ratio(ours: list[float], theirs: list[float]) -> float:
    """How many times faster: the median over the rounds, in which both had the same neighbours."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def environment(folder: Path) -> Path:
    """The interpreter of the peers' environment, which is made once: mosaicml-streaming wants an older numpy."""
    uv, python = Path(sys.executable).with_name("uv"), folder / "bin" / "python"
    if not (folder / ".complete").exists():
        print(f"making an environment for the peers in {folder}", flush=True)
        program = str(uv) if uv.exists() else "uv"
        subprocess.run([program, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([program, "pip", "install", "--quiet", "--python", str(python), *PACKAGES], check=True)
        (folder / ".complete").touch()
    return python


def versions(python: Path) -> str:
    """The peers' versions, for who quotes a figure."""
    names = ["torch", "torchvision", "webdataset", "litdata", "mosaicml-streaming", "pillow"]
    program = (
        "import sys; from importlib.metadata import version as v; print(', '.join(f'{n} {v(n)}' for n in sys.argv[1:]))"
    )
    done = subprocess.run([str(python), "-c", program, *names], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def prepare_peers(python: Path, images: Path, cache: Path) -> None:
    """Have each peer write its own format."""
    (cache / "peers").mkdir(exist_ok=True)
    command = [str(python), str(HERE / "peer_loaders.py"), "prepare", str(images), str(cache / "peers")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the peers' data cannot be written:\n{done.stderr[-3000:]}")
