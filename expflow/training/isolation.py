"""What one trial may leave behind for the next one in the same process: nothing.

A warm rank runs many trials. Each begins with every random generator seeded from its own seed and ends with the
process as it was: so trial A gives the same weights before and after trial B, bit for bit.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.deterministic
from lightning_fabric.utilities.warnings import PossibleUserWarning

from expflow.training.allocator import give_memory_back, keep_freed_memory

LIGHTNING_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")
DETERMINISTIC: Any = torch.utils.deterministic
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices) with ``seed``."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def isolated(*, threads: int, deterministic: bool) -> Iterator[None]:
    """Run the body with ``threads`` compute threads and put every global back as it was afterwards.

    ``deterministic`` asks torch for deterministic algorithms (it warns where an operation has none).
    """
    keep_freed_memory()
    with ExitStack() as stack:
        stack.callback(give_memory_back)
        stack.callback(hold_random_state())
        stack.enter_context(_torch_state())
        stack.enter_context(_process_state())
        stack.enter_context(_quiet_lightning())
        torch.set_num_threads(threads)
        if deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
            DETERMINISTIC.fill_uninitialized_memory = False  # costs time and changes no result of ours
        yield


def hold_random_state() -> Callable[[], None]:
    """Remember the state of every random generator; the result, when called, puts it back."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)

    return restore


@contextmanager
def _torch_state() -> Iterator[None]:
    threads, dtype, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    device, precision = torch.get_default_device(), torch.get_float32_matmul_precision()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill = DETERMINISTIC.fill_uninitialized_memory
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        DETERMINISTIC.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn


@contextmanager
def _process_state() -> Iterator[None]:
    folder, environment = Path.cwd(), dict(os.environ)
    on_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS} if on_main_thread else {}
    try:
        yield
    finally:
        os.chdir(folder)
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's advice is for people who write its Trainer's arguments by hand; its errors still come through."""
    levels = {name: logging.getLogger(name).level for name in LIGHTNING_LOGGERS}
    for name in LIGHTNING_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            # Lightning 2.6 builds torch's LeafSpec the old way; nobody but Lightning can mend that
            warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated", category=FutureWarning)
            # our tasks move their batches themselves, also those of a user's LightningDataModule
            warnings.filterwarnings("ignore", message="You have overridden `transfer_batch_to_device`")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
