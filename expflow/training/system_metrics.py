"""What a training takes of its machine, measured by rank 0 while it trains: about every half minute, and at the end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from expflow.training.contract import OnNotice, SystemMeasurement, World

MEASURE_SECONDS = 30.0
"""Seconds between two measurements: a ledger must not grow by what nobody reads."""


class SystemMonitor(Callback):
    """Measures CPU, memory, GPU, the throughput of training, and how long training waits for its batches.

    Validation is no part of throughput and waiting. Each measurement covers the time since the one before.

    Args:
        world: This rank's place among the trial's ranks; rank 0 measures.
        notify: Called with each measurement.
        batch_size: Samples of one rank's batch; None where that is not known.
        clock: Gives seconds and never goes back.
        cpu_clock: Gives seconds of CPU time of this process.
    """

    def __init__(
        self,
        world: World,
        notify: OnNotice,
        *,
        batch_size: int | None,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._world, self._notify, self._batch_size = world, notify, batch_size
        self._clock, self._cpu_clock = clock, cpu_clock
        self._begin(clock())

    def _begin(self, now: float) -> None:
        self._began, self._cpu_began = now, self._cpu_clock()
        self._last = now
        self._trained = self._waited = 0.0
        self._batches = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What came before is preparation."""
        self._begin(self._clock())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What lies between two epochs is not waiting for a batch."""
        self._last = self._clock()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        now = self._clock()
        self._waited += now - self._last
        self._trained += now - self._last
        self._last = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step is done."""
        now = self._clock()
        self._trained += now - self._last
        self._last = now
        self._batches += 1
        if now - self._began >= MEASURE_SECONDS:
            self._measure(trainer, now)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on; the validation was no wait for a batch."""
        self._last = self._clock()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The attempt's last measurement, of whatever time is left."""
        if self._batches:
            self._measure(trainer, self._clock())

    def _measure(self, trainer: Trainer, now: float) -> None:
        if self._world.rank == 0:
            metrics = {**self._throughput(), **_memory(), **_gpu()}
            metrics["system/cpu_cores"] = (self._cpu_clock() - self._cpu_began) / max(now - self._began, 1e-9)
            self._notify(SystemMeasurement(trainer.global_step, metrics))
        self._begin(now)

    def _throughput(self) -> dict[str, float]:
        trained = max(self._trained, 1e-9)
        metrics = {
            "system/batches_per_second": self._batches / trained,
            "system/wait_share": self._waited / trained,
        }
        if self._batch_size is not None:
            samples = self._batches * self._batch_size * self._world.ranks
            metrics["system/samples_per_second"] = samples / trained
        return metrics


def _memory() -> dict[str, float]:
    """Resident memory of this process; nothing where the system does not say."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return {"system/memory_bytes": float(pages * os.sysconf("SC_PAGE_SIZE"))}
    return {}


def _gpu() -> dict[str, float]:
    """Use and memory of this process's GPU; nothing without one, and no use where NVIDIA's library is not there."""
    if not torch.cuda.is_initialized():
        return {}
    metrics = {"system/gpu_memory_bytes": float(torch.cuda.memory_reserved())}
    with contextlib.suppress(ImportError, RuntimeError):  # it needs the package nvidia-ml-py and a driver that answers
        metrics["system/gpu_use_share"] = torch.cuda.utilization() / 100
    return metrics
