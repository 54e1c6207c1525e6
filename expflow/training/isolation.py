"""Isolation of trials that run one after another in the same process: none leaves anything behind.

A warm rank runs many trials. Each begins with every random generator seeded from its own seed and ends with the
process as it was: so trial A gives the same weights before and after trial B, bit for bit.

What a launcher has told the process that started expflow (``SLURM_*``, ``RANK`` and others) is hidden meanwhile.

Undone is what it did to random generators, environment, working folder, import path, replaced modules, output streams,
signal handlers, alarm clock, logging, warnings, garbage collector and open MLflow runs; and to torch's threads, default
type and device, gradient and anomaly mode, determinism, precisions, autocast, and hooks on every module or optimizer.

Processes that it has started, daemons among them, are ended. Not undone is what cannot be undone from outside: threads
(they are named in a warning), an `inference_mode` that was entered and never left, the number of torch's inter-op
threads, and what a trial changed in modules and classes. What an import of the user's modules changes stays too: they
are imported before this begins, so that the first trial of a process sees no more of it than the others.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only
from lightning_fabric.utilities.warnings import PossibleUserWarning

from expflow.training.allocator import give_memory_back, keep_freed_memory
from expflow.training.launcher_variables import without_launcher_variables
from expflow.training.process_state import process_as_before
from expflow.training.torch_state import DETERMINISTIC, torch_as_before

LIGHTNING_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices).

    Args:
        seed: Any whole number; numpy gets its lowest 32 bits.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def isolated(*, threads: int, deterministic: bool, rank: int = 0) -> Iterator[None]:
    """Run the body, and put every global back as it was afterwards.

    Args:
        threads: Compute threads in the body.
        rank: This process's number among the ranks of its trial, which Lightning had read from the environment.
        deterministic: Whether torch is asked for deterministic algorithms (it warns where an operation has none).
    """
    keep_freed_memory()
    with ExitStack() as stack:
        stack.callback(give_memory_back)
        stack.callback(hold_random_state())
        stack.enter_context(torch_as_before())
        stack.enter_context(np.errstate())
        stack.enter_context(without_launcher_variables())
        stack.enter_context(process_as_before())
        stack.enter_context(_quiet_lightning())
        stack.enter_context(_lightning_rank(rank))
        torch.set_num_threads(threads)
        if deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
            DETERMINISTIC.fill_uninitialized_memory = False  # costs time and changes no result of ours
        yield


def hold_random_state() -> Callable[[], None]:
    """Remember the state of every random generator; the result, when called, puts it back."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)

    return restore


@contextmanager
def _lightning_rank(rank: int) -> Iterator[None]:
    """Lightning takes its rank from the environment when it is imported; with one rank its strategies leave it so."""
    of_all: Any = rank_zero_only  # its attribute is set by Lightning, on the function
    before, of_all.rank = of_all.rank, rank
    try:
        yield
    finally:
        of_all.rank = before


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's advice, which is for people who write its Trainer's arguments by hand; errors are raised."""
    levels = {name: logging.getLogger(name).level for name in LIGHTNING_LOGGERS}
    for name in LIGHTNING_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            # Lightning 2.6 builds torch's LeafSpec the old way; only Lightning can mend that
            warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated", category=FutureWarning)
            # an attempt that goes on finds what the one before it wrote
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            # our tasks move their batches themselves, also those of a user's LightningDataModule
            warnings.filterwarnings("ignore", message="You have overridden `transfer_batch_to_device`")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
