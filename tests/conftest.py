"""What holds for every test: a quiet, equal machine around it, and nothing left behind by it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from expflow import redaction

# The same examples in every run: a test that fails now and then says nothing about the change before it.
settings.register_profile("expflow", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("expflow")

# Before anything imports torch or numpy: one thread each, so that results and timings do not hang on the machine.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["MPLBACKEND"] = "Agg"
# What the user of this machine has configured must not reach a test.
for _variable in list(os.environ):
    if _variable.startswith(("EXPFLOW_", "MLFLOW_", "RAY_")):
        del os.environ[_variable]

# Ray reads this when a test's module imports it: no Ray that a test starts listens beyond this machine.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

SET_BY_LIBRARIES = (
    "CUDA_",
    "CUBLAS_",
    "KMP_",
    "LD_LIBRARY_PATH",  # OpenCV
    "LIGHTNING_",
    "MLFLOW_",
    "_MLFLOW_",
    "NCCL_",
    "PL_",
    "PYTEST_",
    "PYTORCH_",
    "RAY_",
    "TF_",
    "TORCH",
    "TRITON_",
    "TUNE_",
)
"""Beginnings of variables that libraries set for themselves when they are first imported or started."""


@pytest.fixture(scope="session")
def rank_forks() -> Iterator[None]:
    """What forks the ranks of :func:`tests.rank_forks.run_forked_ranks`."""
    from tests.rank_forks import rank_forks_started  # here, since it imports libraries that read what is set above

    with rank_forks_started():
        yield


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No configuration and no cache of the user's: each test has a configuration folder of its own, empty."""
    # A patch of its own: a test's monkeypatch must be undone before _nothing_leaks looks.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(redaction, "_remembered", set())  # a secret of one test is a mere word in the next
        patch.setenv("EXPFLOW_HOOKS", "off")  # what this machine has installed beside us is no part of a test
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))
        yield


@pytest.fixture(autouse=True)
def _nothing_leaks(request: pytest.FixtureRequest, _own_surroundings: None) -> Iterator[None]:
    """Fail a test that leaves environment, folder, signal handlers, threads, processes or a process group behind.

    Warning filters need no check: pytest puts them back after each phase of a test.
    """
    environment, folder, handlers = dict(os.environ), Path.cwd(), _handlers()
    threads, children = set(threading.enumerate()), _children()
    yield
    left = []
    if changed := _changed(environment):
        left.append(f"environment variables {changed}")
        os.environ.clear()
        os.environ.update(environment)
    if Path.cwd() != folder:
        left.append(f"the working folder {Path.cwd()}")
        os.chdir(folder)
    if strange := [signal.Signals(number).name for number, old in handlers.items() if _handlers()[number] is not old]:
        left.append(f"signal handlers {strange}")
        for number, old in handlers.items():
            signal.signal(number, old)
    if _process_group():
        left.append("a torch.distributed process group")
    if request.node.get_closest_marker("ray") is None:  # Ray's threads and processes last as long as its cluster
        if alive := _still_there(lambda: {thread for thread in threading.enumerate() if not thread.daemon} - threads):
            left.append(f"threads {sorted(thread.name for thread in alive)}")
        if alive := _still_there(lambda: _children() - children):
            left.append(f"processes {sorted(alive)}")
    if left:
        pytest.fail(f"the test left behind: {'; '.join(left)}")


def _handlers() -> dict[int, object]:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}


def _changed(before: dict[str, str]) -> list[str]:
    after = dict(os.environ)
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return sorted(name for name in names if not name.startswith(SET_BY_LIBRARIES))


def _process_group() -> bool:
    distributed = sys.modules.get("torch.distributed")
    return bool(distributed and distributed.is_available() and distributed.is_initialized())


def _children() -> set[int]:
    """Running children of this process; zombies are done."""
    running = set()
    try:
        listed = [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]
    except OSError:  # not Linux, or a kernel without this file
        return running
    for pid in listed:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        # multiprocessing's trackers belong to the whole test session
        if state != "Z" and "multiprocessing.resource_tracker" not in command and "forkserver" not in command:
            running.add(pid)
    return running


def _still_there(left: object, patience: float = 5.0) -> set:
    """What ``left()`` still returns after things had ``patience`` seconds to end by themselves."""
    end = time.monotonic() + patience
    while (there := left()) and time.monotonic() < end:
        time.sleep(0.02)
    return there
