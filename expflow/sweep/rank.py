"""One process of a gang: it stays warm, runs its part of one trial after another, and sends a heartbeat meanwhile.

What a trial reports and how it ends goes to the dispatcher as messages. Nothing that a trial does raises out of
:meth:`Rank.run`, so the process outlives every trial that does not kill it.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import ray

from expflow.config.identity import dump
from expflow.data.stores.signed_urls import keep_queries
from expflow.errors import LedgerDamaged, Preempted, StorageUnreachable
from expflow.files import redact_file
from expflow.garbage import nothing_collected
from expflow.redaction import remember_secrets
from expflow.storage.trial_folder import TrialSender
from expflow.sweep.assignment import Assignment, GangShape, RankPlace, rank_file
from expflow.sweep.bounded_log import BoundedLog
from expflow.sweep.failures import BATCH_FAILED, failure_class
from expflow.sweep.heartbeat import Heartbeat
from expflow.sweep.messages import AttemptFailedMessage, FinalMessage, TrialEndedMessage
from expflow.sweep.node_data import data_on_this_node
from expflow.sweep.rank_children import leave_mark
from expflow.sweep.rank_end import exits_noted
from expflow.sweep.report_channel import ReportChannel
from expflow.sweep.trial_config import FILE as CONFIG
from expflow.sweep.trial_config import write_config
from expflow.training.contract import (
    LEAVE_SIGNALS,
    Attempt,
    Fence,
    World,
    run_trial,
    trials_per_gpu,
)


def import_from(paths: tuple[str, ...]) -> None:
    """Put folders before this process's import path.

    Args:
        paths: The folders; a relative one is seen from the folder that this node unpacked.
    """
    for path in reversed(paths):
        full = str(Path(path).absolute())
        if full not in sys.path:
            sys.path.insert(0, full)


class Rank:
    """One process of a gang, a Ray actor. Its methods run on the main thread, so trials may install signal handlers.

    Args:
        rank: Its number among the gang's, from 0.
        shape: What the gang is made of.
    """

    def __init__(self, rank: int, shape: GangShape) -> None:
        self._rank, self._shape = rank, shape
        self._terminated, self._mark = False, leave_mark()
        for number in LEAVE_SIGNALS:
            signal.signal(number, self._terminate)  # Ray's own for SIGTERM ends the process, with nothing saved
        faulthandler.enable()  # by which a log tells the signal that its process died of
        import_from(shape.paths)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        """A batch system, or whoever runs this machine, wants this process gone. A trial saves and leaves."""
        self._terminated = True

    def place(self) -> RankPlace:
        """Where this process runs."""
        return RankPlace(str(ray.get_runtime_context().get_node_id()), socket.gethostname(), os.getpid(), self._mark)

    def warm_up(self) -> None:
        """Import what trials need."""
        with nothing_collected():
            for module in self._shape.warm:
                importlib.import_module(module)

    def become(self, rank: int, ranks: int) -> None:
        """Take another place, before a gang of other ranks meets.

        Args:
            rank: This process's number in it.
            ranks: How many it has.
        """
        if self._shape.ranks > 1:
            from expflow.training.ranks import leave_group

            leave_group()
        self._rank, self._shape = rank, replace(self._shape, ranks=ranks)

    def host(self) -> tuple[str, int]:
        """Open the meeting point of the gang's process group; called on rank 0. Returns its address and port."""
        from expflow.training import ranks  # torch, which a gang of one rank imports while it warms up

        address = ray.util.get_node_ip_address()
        return address, ranks.host_rendezvous(address, self._shape.ranks)

    def join(self, meeting: tuple[str, int]) -> None:
        """Join the gang's process group, for all trials to come.

        Args:
            meeting: Address and port of rank 0's meeting point.
        """
        from expflow.training import ranks

        ranks.join_group(self._rank, self._shape.ranks, *meeting, ray.util.get_node_ip_address())

    def run(self, assignment: Assignment, dispatcher: Any, lease: str) -> FinalMessage:
        """Run one attempt to its end. Never raises: a failure is a message, so the rank stays warm.

        Args:
            assignment: What is to be run.
            dispatcher: Ray's handle of the dispatcher.
            lease: The key that the dispatcher knows the trial by.
        """
        started = time.perf_counter()
        keep_queries(assignment.addresses)
        remember_secrets(dump(assignment.recipe))
        folder = Path(assignment.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)  # on another node than the driver's
            with Heartbeat(dispatcher, lease, self._rank, rank_file(folder, "stacks", self._rank)) as heartbeat:
                sender = TrialSender(assignment.stored, folder) if assignment.stored is not None else None
                if sender is not None:
                    self._restore(assignment, sender)
                    sender.fetch_shared(_shared_files(assignment))
                    heartbeat.open_again()
                    self._complete(assignment, folder)
                saved = [sender.wake] if sender is not None else []
                channel = ReportChannel(assignment, dispatcher, lease, heartbeat.step, *saved)
                message = self._run_logged(assignment, channel, heartbeat, sender, started)
                if sender is not None:  # by now the log holds no secret
                    sender.finish(soon=self._terminated)
                return message
        except (StorageUnreachable, LedgerDamaged) as error:
            return failure_message(assignment, failure_class(error), f"on {socket.gethostname()}: {error}", started)
        except OSError as error:  # the log itself cannot be written
            text = f"{folder} on {socket.gethostname()}: {error}"
            return failure_message(assignment, failure_class(error, folder), text, started)

    def _run_logged(
        self,
        assignment: Assignment,
        channel: ReportChannel,
        heartbeat: Heartbeat,
        sender: TrialSender | None,
        started: float,
    ) -> FinalMessage:
        """Run the attempt with what it prints in the trial's log, and its folder sent meanwhile where it is stored."""
        with ExitStack() as stack:
            path = rank_file(Path(assignment.folder), "log", self._rank)
            stack.callback(redact_file, path)
            log = stack.enter_context(BoundedLog(path, assignment.log_bytes))
            stack.enter_context(exits_noted())
            if sender is not None:
                stack.enter_context(sender)
            heartbeat.at_each_beat = (channel.push, log.trim)
            message = self._attempt(assignment, channel, heartbeat, started)
            with suppress(ray.exceptions.RayError):  # the dispatcher is gone, and nothing could receive it
                channel.flush()
            return message

    def _attempt_of(self, assignment: Assignment) -> Attempt:
        folder = Path(self._shape.paths[0]).absolute() if self._shape.paths else None
        return Attempt(
            assignment.recipe,
            assignment.seed,
            data_root=data_on_this_node(assignment, folder),
            folder=Path(assignment.folder),
            forks=assignment.forks,
            number=assignment.attempt,
            fence=_fence_of(assignment),
            weights=assignment.weights,
            features=assignment.features,
            labeller=assignment.labeller,
            judged_by=assignment.judged_by,
        )

    def _restore(self, assignment: Assignment, sender: TrialSender) -> None:
        """Have what the store has of the trial. Rank 0 comes first, and sends what it alone has: the others, on disks
        of their own perhaps, have to go on from the same checkpoint."""
        waits = self._shape.ranks > 1 and assignment.attempt > 1
        if self._rank == 0 or not waits:
            sender.restore(writes=self._rank == 0)
        if not waits:
            return
        from expflow.training.ranks import broadcast_object  # torch, which a trial of several ranks has imported

        if self._rank == 0:
            sender.send()
        broadcast_object(None, _world(self._rank, self._shape))
        if self._rank:
            sender.restore(writes=False)

    def _complete(self, assignment: Assignment, folder: Path) -> None:
        """Write what the driver has written into its own copy of the trial's folder, where this node has another."""
        if self._rank == 0 and assignment.experiment and not (folder / CONFIG).exists():
            name = Path(assignment.experiment).name
            write_config(folder, f"{name}/{assignment.trial}", assignment.seed, assignment.recipe)

    def _try_batches(
        self, assignment: Assignment, channel: ReportChannel, started: float
    ) -> AttemptFailedMessage | None:
        """Try a batch where the driver wants it; what failed, or None."""
        if assignment.check is None:
            return None
        from expflow.training.batch_check import check_batches  # torch and Lightning, which the trial needs too

        finding = check_batches(assignment.check, self._attempt_of(assignment), _world(self._rank, self._shape))
        if self._rank == 0:
            channel.tried(finding)
        return failure_message(assignment, BATCH_FAILED, finding.failure, started) if finding.failure else None

    def _attempt(
        self, assignment: Assignment, channel: ReportChannel, heartbeat: Heartbeat, started: float
    ) -> FinalMessage:
        try:
            if self._terminated:
                raise Preempted("this rank was told to leave, by a signal, before the attempt began")
            if (refused := self._try_batches(assignment, channel, started)) is not None:
                return refused
            outcome = run_trial(
                self._attempt_of(assignment),
                _world(self._rank, self._shape),
                channel.report,
                on_notice=channel.notice,
                leave=lambda: heartbeat.leave() or self._terminated,
            )
        except ray.exceptions.RayError as error:  # the dispatcher is gone, and with it the driver
            return failure_message(assignment, "worker_lost", str(error), started)
        except BaseException as error:  # noqa: BLE001  whatever the user's code raises is this trial's failure, not ours
            failed = AttemptFailedMessage.from_error(
                assignment.trial,
                assignment.attempt,
                error,
                seconds=time.perf_counter() - started,
                results=Path(assignment.experiment or assignment.folder),
                device_bytes_left=_device_bytes_left(),
            )
            if failed.traceback:
                _write_to_log(failed.traceback)
            return failed
        return TrialEndedMessage.from_outcome(
            assignment.trial,
            assignment.attempt,
            outcome,
            seconds=time.perf_counter() - started,
            device_bytes_left=_device_bytes_left(),
        )


def _write_to_log(text: str) -> None:
    """Write past ``sys.stderr``, which the trial may have closed, and which may not take every character."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os.write(2, text.encode())


def _world(rank: int, shape: GangShape) -> World:
    return World(
        rank,
        shape.ranks,
        shape.cpus_per_rank,
        int(shape.gpus_per_rank > 0),
        trials_per_gpu(shape.gpus_per_rank),
        shape.gpu_memory,
    )


def _fence_of(assignment: Assignment) -> Fence | None:
    """What keeps an older driver's rank from writing. On a node that does not see the ledger it is the manifest's name
    in the store that does so."""
    if not assignment.experiment:
        return None
    experiment = Path(assignment.experiment)
    if assignment.stored is not None and not (experiment / "ledger").is_dir():
        return None
    return Fence(experiment, assignment.epoch)


def _shared_files(assignment: Assignment) -> list[Path]:
    """Files that a trial reads besides its own folder, which the driver keeps in the experiment's."""
    classifiers = (assignment.features, assignment.labeller)
    weights = [assignment.weights, *(classifier.weights for classifier in classifiers if classifier is not None)]
    return [path for known in weights if known is not None for path, _ in known.files]


def failure_message(assignment: Assignment, failure: str, message: str, started: float) -> AttemptFailedMessage:
    """The message of a failure that is not the trial's own error.

    Args:
        assignment: What was to be run.
        failure: The class of the failure.
        message: The failure in words.
        started: When the attempt began, by ``time.perf_counter``.
    """
    return AttemptFailedMessage(
        assignment.trial,
        assignment.attempt,
        failure,
        message,
        seconds=time.perf_counter() - started,
        device_bytes_left=_device_bytes_left(),
    )


def _device_bytes_left() -> int:
    """Bytes of device memory that are still in use between two trials."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    gc.collect()
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_allocated())
