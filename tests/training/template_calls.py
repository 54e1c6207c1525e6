"""What the template's forks are asked to do in its tests."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from expflow.training.contract import Attempt, World, run_trial


def modules() -> list[str]:
    return sorted(sys.modules)


def open_files(pid: int) -> list[str]:
    """What the file descriptors of a process stand for."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            names.append(os.readlink(link))  # noqa: PTH115 - links to no file
    return names


def is_idle(pid: int) -> bool:
    """Whether a process sleeps for half a second, as a template does that has imported everything."""
    states = set[str]()
    for _ in range(5):
        time.sleep(0.1)
        states.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return states == {"S"}


def train_after_import(module: str, recipe: Any, root: Path) -> tuple[int, list[str], str]:
    """Threads and open files of this process after an import of a user's module, and the weights of a trial then."""
    importlib.import_module(module)
    threads = len(list(Path("/proc/self/task").iterdir()))
    return threads, open_files(os.getpid()), weights_of(recipe, root, 1)


def weights_of(recipe: Any, root: Path, threads: int) -> str:
    """Digest of the weights that a trial ends with."""
    with tempfile.TemporaryDirectory() as folder:
        attempt = Attempt(recipe, 3, data_root=root, folder=Path(folder))
        return run_trial(attempt, World(threads=threads), lambda report: True).weights


def heaps_of_threads(file: str) -> int:
    """Heaps of the C library in this process, after as many threads as Ray's worker has have allocated something."""
    libc, allocated = ctypes.CDLL(None), threading.Barrier(26)
    libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p

    def allocate() -> None:
        libc.malloc(2000)
        allocated.wait()

    for _ in range(25):
        threading.Thread(target=allocate, daemon=True).start()
    allocated.wait()
    stream = ctypes.c_void_p(libc.fopen(file.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    return Path(file).read_text().count("<heap nr=")


def fail() -> None:
    raise ValueError("asked to")


def die() -> None:
    os.kill(os.getpid(), 9)


def die_with_a_daemon(file: str) -> None:
    """End by a signal, leaving a daemon behind (a child's child in a session of its own), whose id is in ``file``."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(file).write_text(str(os.getpid()))
            time.sleep(300)
        os._exit(0)
    while not Path(file).exists() or not Path(file).read_text():
        time.sleep(0.01)
    die()
