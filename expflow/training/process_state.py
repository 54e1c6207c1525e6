"""What Python keeps for the whole process: saved before a trial and restored after it."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from expflow.training.child_processes import hold_children

logger = logging.getLogger(__name__)

ENDING_SECONDS = 0.2
"""How long a thread of the body gets to end by itself before a warning names it."""


@contextmanager
def process_as_before() -> Iterator[None]:
    """Whatever the body changes, the process is afterwards as it was before.

    Threads that the body leaves cannot be ended from outside: they are named in a warning. Processes are ended.
    """
    holds = (_folder_and_environment, _imports, _streams, _signals, _logging, _garbage_collector, hold_children)
    restores = [hold() for hold in holds]
    threads, run = set(threading.enumerate()), _open_run()
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    finally:
        _end_runs(run, status)
        for restore in restores:
            restore()
        _warn_of_threads(threads)


def _folder_and_environment() -> Callable[[], None]:
    folder, environment = Path.cwd(), dict(os.environ)

    def restore() -> None:
        os.chdir(folder)
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)

    return restore


def _imports() -> Callable[[], None]:
    """The import path, and modules that were replaced; what was imported stays, as a warm process should have it."""
    path, entries, modules = sys.path, list(sys.path), dict(sys.modules)

    def restore() -> None:
        sys.path = path
        sys.path[:] = entries
        sys.modules.update({name: module for name, module in modules.items() if sys.modules.get(name) is not module})

    return restore


def _streams() -> Callable[[], None]:
    out, err, hook, limit = sys.stdout, sys.stderr, sys.excepthook, sys.getrecursionlimit()

    def restore() -> None:
        sys.stdout, sys.stderr, sys.excepthook = out, err, hook
        sys.setrecursionlimit(limit)

    return restore


def _signals() -> Callable[[], None]:
    """Handlers and the alarm clock, which belong to the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    (until, interval), now = signal.getitimer(signal.ITIMER_REAL), time.monotonic()

    def restore() -> None:
        # First: an alarm without its handler ends the process. One that was set before goes off when it should.
        signal.setitimer(signal.ITIMER_REAL, max(until - (time.monotonic() - now), interval, 0), interval)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)

    return restore


def _logging() -> Callable[[], None]:
    """Levels and handlers of the loggers that are there; one that comes with a later import stays as that made it."""
    named = logging.root.manager.loggerDict.values()
    loggers = [logging.root, *(log for log in named if isinstance(log, logging.Logger))]
    settings = [(log, log.level, log.propagate, log.disabled, list(log.handlers)) for log in loggers]
    disabled = logging.root.manager.disable

    def restore() -> None:
        logging.disable(disabled)
        for log, level, propagate, off, handlers in settings:
            if log.level != level:
                log.setLevel(level)
            log.propagate, log.disabled = propagate, off
            if log.handlers != handlers:
                _set_handlers(log, handlers)

    return restore


def _set_handlers(log: logging.Logger, handlers: list[logging.Handler]) -> None:
    for added in [handler for handler in log.handlers if handler not in handlers]:
        log.removeHandler(added)
        added.close()
    log.handlers[:] = handlers


def _garbage_collector() -> Callable[[], None]:
    """Python's garbage collector, and how multiprocessing starts processes."""
    collects, thresholds = gc.isenabled(), gc.get_threshold()
    method = multiprocessing.get_start_method(allow_none=True)

    def restore() -> None:
        (gc.enable if collects else gc.disable)()
        gc.set_threshold(*thresholds)
        if multiprocessing.get_start_method(allow_none=True) != method:
            multiprocessing.set_start_method(method, force=True)

    return restore


def _open_run() -> str | None:
    """Id of the MLflow run that is open in this thread; None where no code has imported MLflow."""
    active = getattr(sys.modules.get("mlflow"), "active_run", None)
    run = active() if active is not None else None
    return None if run is None else str(run.info.run_id)


def _end_runs(before: str | None, status: str) -> None:
    """End the runs that the body's own code has opened, or the next trial's metrics would go to them."""
    while (run := _open_run()) not in (None, before):
        try:
            sys.modules["mlflow"].end_run(status)
        except Exception:  # the store may be gone; the run is closed in this process all the same
            logger.warning("the MLflow run %s could not be ended", run, exc_info=True)
            if _open_run() == run:
                return


def _warn_of_threads(before: set[threading.Thread]) -> None:
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in left:
        thread.join(ENDING_SECONDS)
    if names := sorted(thread.name for thread in left if thread.is_alive()):
        logger.warning("threads are left running beside what comes next: %s", ", ".join(names))
