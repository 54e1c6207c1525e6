"""One process of a gang: it stays warm, runs its part of one trial after another, and shows that it is alive.

What a trial says and how it ends goes to the dispatcher as messages. Nothing that a trial does raises out of
:meth:`Rank.run`, so the process outlives every trial that does not kill it.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from expflow.config.schema import Recipe
from expflow.sweep.speaker import Speaker
from expflow.training.contract import sharing
from expflow.training.transfer.source import Pretrained

Message = dict[str, Any]

BEAT_SECONDS = 1.0
"""How often a rank says that it lives."""

SILENT_SECONDS = 30.0
"""After this long without a word a rank counts as hung: stopped, or stuck where even its other threads cannot run."""

LEFT_BYTES = 64 * 2**20
"""Device memory that a trial may leave behind; with more, the process is not fit for another trial."""


@dataclass(frozen=True)
class Shape:
    """What one gang is made of. ``gpu_memory`` is the share of a GPU's memory that torch may take in a rank. ``paths``
    are added to the ranks' import path, relative ones as seen from the ranks' working folder; ``warm`` modules are
    imported early."""

    ranks: int = 1
    cpus_per_rank: int = 1
    gpus_per_rank: float = 0
    gpu_memory: float = 1.0
    paths: tuple[str, ...] = ()
    warm: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """One trial for a gang. ``attempt`` is the number of the next attempt, ``experiment`` the folder of all results,
    ``epoch`` the driver's; ``forks`` counts how often the trial took over another one's weights. In ``lockstep`` each
    report waits for the driver's decision."""

    trial: str
    attempt: int
    recipe: Recipe
    seed: int
    folder: str
    data_root: str | None = None
    experiment: str | None = None
    epoch: int = 0
    forks: int = 0
    weights: Pretrained | None = None
    lockstep: bool = True


def import_from(paths: tuple[str, ...]) -> None:
    """Put ``paths`` before this process's import path."""
    for path in reversed(paths):
        full = str(Path(path).absolute())  # a relative one is seen from the folder that this node unpacked
        if full not in sys.path:
            sys.path.insert(0, full)


class Rank:
    """One process of a gang. Its methods run on the process's main thread, so trials may install signal handlers."""

    def __init__(self, rank: int, shape: Shape) -> None:
        self._rank, self._shape = rank, shape
        import_from(shape.paths)

    def node(self) -> str:
        """Id of the node that this process runs on."""
        return str(ray.get_runtime_context().get_node_id())

    def warm_up(self) -> None:
        """Import what trials need."""
        import importlib

        for module in self._shape.warm:
            importlib.import_module(module)

    def host(self) -> tuple[str, int]:
        """Open the meeting point of the gang's process group; called on rank 0. Returns its address and port."""
        from expflow.training import ranks

        address = ray.util.get_node_ip_address()
        return address, ranks.host(address, self._shape.ranks)

    def join(self, meeting: tuple[str, int]) -> None:
        """Join the gang's process group, for all trials to come."""
        from expflow.training import ranks

        ranks.join(self._rank, self._shape.ranks, *meeting)

    def run(self, assignment: Assignment, dispatcher: Any, lease: str) -> Message:
        """Run one attempt to its end. Never raises: a failure is a message, so the rank stays warm."""
        started = time.perf_counter()
        folder = Path(assignment.folder)
        suffix = f"-rank{self._rank}" if self._rank else ""
        try:
            with ExitStack() as stack:
                stack.enter_context(_output_to(folder / f"log{suffix}.txt"))
                pulse = stack.enter_context(_Pulse(dispatcher, lease, self._rank, folder / f"stacks{suffix}.txt"))
                speaker = Speaker(assignment, dispatcher, lease, started, pulse.step)
                pulse.each_beat = speaker.push
                message = self._attempt(assignment, speaker, pulse)
                with suppress(ray.exceptions.RayError):  # the dispatcher is gone, and with it who would listen
                    speaker.flush()
                return message
        except OSError as error:  # the log itself cannot be written
            return failure(assignment, "storage", f"{folder}: {error}", "", started)

    def _attempt(self, assignment: Assignment, speaker: Speaker, pulse: _Pulse) -> Message:
        from expflow.errors import ExpflowError, StorageUnwritable, TrialError
        from expflow.training import Attempt, Fence, World, run_trial

        shape = self._shape
        world = World(
            self._rank,
            shape.ranks,
            shape.cpus_per_rank,
            int(shape.gpus_per_rank > 0),
            sharing(shape.gpus_per_rank),
            shape.gpu_memory,
        )
        fence = Fence(Path(assignment.experiment), assignment.epoch) if assignment.experiment else None
        attempt = Attempt(
            assignment.recipe,
            assignment.seed,
            data_root=Path(assignment.data_root) if assignment.data_root else None,
            folder=Path(assignment.folder),
            forks=assignment.forks,
            number=assignment.attempt,
            fence=fence,
            weights=assignment.weights,
        )
        started = speaker.started
        try:
            outcome = run_trial(attempt, world, speaker.report, on_notice=speaker.notice, leave=pulse.leave)
        except TrialError as error:
            trace = ""
            if error.failure == "code":
                trace = traceback.format_exc()
                traceback.print_exc()
            return failure(assignment, error.failure, str(error), trace, started)
        except StorageUnwritable as error:
            return failure(assignment, "storage", str(error), "", started)
        except ray.exceptions.RayError as error:  # the dispatcher is gone, and with it the driver
            return failure(assignment, "worker_lost", str(error), "", started)
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the user's code raises is this trial's failure, not ours
            traceback.print_exc()
            text = str(error) if isinstance(error, ExpflowError) else f"{type(error).__name__}: {error}"
            return failure(assignment, "code", text, traceback.format_exc(), started)
        return {
            "kind": "ended",
            "trial": assignment.trial,
            "attempt": assignment.attempt,
            "status": "stopped" if outcome.stopped else "done",
            "step": outcome.step,
            "seconds": time.perf_counter() - started,
            "weights": outcome.weights,
            "reason": outcome.reason,
            "left": _left_on_device(),
        }


def failure(assignment: Assignment, kind: str, message: str, trace: str, started: float) -> Message:
    """The message that an attempt failed; ``started`` is when, by ``time.perf_counter``."""
    return {
        "kind": "attempt_failed",
        "trial": assignment.trial,
        "attempt": assignment.attempt,
        "failure": kind,
        "message": message,
        "traceback": trace,
        "seconds": time.perf_counter() - started,
        "left": _left_on_device(),
    }


def _left_on_device() -> int:
    """Bytes of device memory that are still in use between two trials."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    import gc

    gc.collect()
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_allocated())


class _Pulse:
    """A thread that says to the dispatcher, while a trial runs, that this process lives and how far the trial is.

    It hears in return whether the trial has to leave, or stacks are wanted. Where even this thread cannot run, a
    watchdog outside of the interpreter writes the stacks by itself.
    """

    def __init__(self, dispatcher: Any, lease: str, rank: int, stacks: Path) -> None:
        self._dispatcher, self._lease, self._rank, self._stacks = dispatcher, lease, rank, stacks
        self.each_beat: Callable[[], None] = lambda: None
        """Called at each beat."""
        self._steps = 0
        self._leave = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="expflow-pulse", daemon=True)

    def __enter__(self) -> _Pulse:
        self._file = os.open(self._stacks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(2 * BEAT_SECONDS)
        faulthandler.cancel_dump_traceback_later()
        os.close(self._file)
        if self._stacks.stat().st_size == 0:
            self._stacks.unlink()

    def step(self) -> None:
        """The trial has got on."""
        self._steps += 1

    def leave(self) -> bool:
        """Asked after each step: whether the trial has to leave."""
        self._steps += 1
        return self._leave

    def _beat(self) -> None:
        while not self._over.is_set():
            faulthandler.dump_traceback_later(SILENT_SECONDS / 2, file=self._file)
            try:
                wish = ray.get(self._dispatcher.beat.remote(self._lease, self._rank, self._steps))
                self.each_beat()
            except ray.exceptions.RayError:  # the dispatcher is gone; the trial will notice at its next report
                return
            if wish == "stacks":
                faulthandler.dump_traceback(file=self._file, all_threads=True)
            self._leave = self._leave or wish == "leave"
            self._over.wait(BEAT_SECONDS)


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send this process's output to the trial's log, file descriptors included, so that C libraries are caught too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, target):
            os.close(descriptor)
