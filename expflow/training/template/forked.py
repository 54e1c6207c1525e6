"""What a fork of the template becomes: Ray's worker, with all that it would have inherited, or one call's answer."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import resource
import runpy
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expflow.registry import load_dotted
from expflow.training.template.shim import GO, LIMITS, receive_frame, send_frame

PYTHONPATH = "PYTHONPATH"

_READ_AT_START = (
    *("LD_", "PYTHON", "MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "TORCH", "PYTORCH_"),
    "PROTOCOL_BUFFERS_",
)
"""Beginnings of variables that Python and the libraries of the template read once, when they start."""

_SET_LATER = frozenset(
    (
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "PYTHONBREAKPOINT",
        "KMP_DUPLICATE_LIB_OK",
        "KMP_INIT_AT_FORK",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    )
)
"""Those that a fork can still follow (PYTHONBREAKPOINT is read by each breakpoint; Ray sets it in a process that
connects; scikit-learn sets KMP_DUPLICATE_LIB_OK and KMP_INIT_AT_FORK in every process that imports it, as ranks of
digits do by themselves), or that trials set by other means: threads by ``torch.set_num_threads``."""


def differences(mine: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Variables in which a process must not differ from the template that it is forked from.

    Args:
        mine: The template's environment.
        other: That of the process.
    """
    names = {name for name in {*mine, *other} if name.startswith(_READ_AT_START)} - _SET_LATER
    return sorted(name for name in names if mine.get(name) != other.get(name))


def installed_path() -> list[str]:
    """This process's import path without what PYTHONPATH has added."""
    own = {str(Path(path).absolute()) for path in os.environ.get(PYTHONPATH, "").split(os.pathsep) if path}
    return [path for path in sys.path if path and path not in own]


def become_worker(
    request: Mapping[str, Any], installed: Sequence[str], streams: Sequence[int], connection: socket.socket
) -> None:
    """Take over what the shim would have inherited, and run Ray's script of a worker.

    Args:
        request: The shim's surroundings, as it sent them.
        installed: The import path that every process of this environment has.
        streams: The shim's standard streams.
        connection: The connection to it.
    """
    os.setpgid(0, 0)  # a signal for the group of one rank must reach no other
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _set_import_path(request["arguments"][0], installed)
    _set_limits(request)
    _set_signals(request)
    _draw_anew()
    send_frame(connection, b'{"pid": %d}' % os.getpid())
    if connection.recv(1) != GO:  # the shim has given up, and executes Python
        os._exit(1)
    connection.close()
    sys.argv = list(request["arguments"])
    runpy.run_path(sys.argv[0], run_name="__main__")


def _set_import_path(script: str, installed: Sequence[str]) -> None:
    """The import path as a new interpreter makes it: the script's folder, PYTHONPATH, then what is installed."""
    own = [str(Path(path).absolute()) for path in os.environ.get(PYTHONPATH, "").split(os.pathsep) if path]
    sys.path[:] = [str(Path(script).parent), *own, *installed]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def _set_limits(request: Mapping[str, Any]) -> None:
    os.umask(request["umask"])
    with contextlib.suppress(OSError):  # a lower number needs rights that Ray's worker did not need
        os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    for name in LIMITS:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), tuple(request["limits"][name]))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(request["oom_score"], encoding="ascii")


def _set_signals(request: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in request["ignored"]:
        with contextlib.suppress(OSError):  # SIGKILL and SIGSTOP cannot be set
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])


def _draw_anew() -> None:
    """Forks must not draw the same numbers outside of trials; Python's own generator looks after itself."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def answer_call(request: Mapping[str, Any], connection: socket.socket) -> None:
    """Call a function with the arguments that follow on the connection, and send back what it returns.

    Args:
        request: Names the function, and folders that are put before the import path.
        connection: The connection to the caller, who is this user.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what a user's module prints must not be kept waiting for
        os.dup2(nothing, number)
    os.chdir(request["folder"])
    sys.path[:0] = [path for path in request["paths"] if path not in sys.path]
    arguments = pickle.loads(receive_frame(connection))  # noqa: S301  this user's driver has sent them
    value = load_dotted(request["call"])(*arguments)
    send_frame(connection, pickle.dumps(value))
    os._exit(0)
