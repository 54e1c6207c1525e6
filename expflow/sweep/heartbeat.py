"""The heartbeat of a rank: it shows the dispatcher that the process is alive, and how far its trial is."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

BEAT_SECONDS = 1.0
"""Time between two heartbeats."""

SILENT_SECONDS = 30.0
"""After this long without a heartbeat a rank counts as hung: stopped, or stuck where even its other threads cannot
run."""


class Heartbeat:
    """A thread that tells the dispatcher, while a trial runs, that this process is alive and how far the trial is.

    It gets in return whether the trial has to leave, or stacks are wanted. Where even this thread cannot run, a
    watchdog outside of the interpreter writes the stacks by itself.

    Args:
        dispatcher: Ray's handle of the dispatcher.
        lease: The key that the dispatcher knows the trial by.
        rank: This process's number among the gang's.
        stacks: File that stacks are written to.
    """

    def __init__(self, dispatcher: Any, lease: str, rank: int, stacks: Path) -> None:
        self._dispatcher, self._lease, self._rank, self._stacks = dispatcher, lease, rank, stacks
        self.at_each_beat: tuple[Callable[[], None], ...] = ()
        """Called at each beat, on this thread."""
        self._steps = 0
        self._leave = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="expflow-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._file = self._opened()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(2 * BEAT_SECONDS)
        faulthandler.cancel_dump_traceback_later()
        os.close(self._file)
        with suppress(FileNotFoundError):
            if self._stacks.stat().st_size == 0:
                self._stacks.unlink()

    def open_again(self) -> None:
        """Open the file of stacks anew, where the folder around it was replaced by what the store has."""
        descriptor = self._opened()
        os.dup2(descriptor, self._file, inheritable=False)  # the watchdog knows the number
        os.close(descriptor)

    def _opened(self) -> int:
        return os.open(self._stacks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def step(self) -> None:
        """Count a step of the trial."""
        self._steps += 1

    def leave(self) -> bool:
        """Count a step; returns whether the trial has to leave. Asked after each batch."""
        self._steps += 1
        return self._leave

    def _run(self) -> None:
        while not self._over.is_set():
            faulthandler.dump_traceback_later(SILENT_SECONDS / 2, file=self._file)
            try:
                request = ray.get(self._dispatcher.beat.remote(self._lease, self._rank, self._steps))
                for call in self.at_each_beat:
                    call()
            except ray.exceptions.RayError:  # the dispatcher is gone; the trial will notice at its next report
                return
            if request == "stacks":
                faulthandler.dump_traceback(file=self._file, all_threads=True)
            self._leave = self._leave or request == "leave"
            self._over.wait(BEAT_SECONDS)
