"""The memory that a trial takes of a GPU, measured by its first steps there."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from itertools import count

import torch

from expflow.errors import OutOfMemory, TrialError
from expflow.training.contract import Attempt, DeviceNeed, World, run_trial

STEPS = 8
"""Batches, those of a validation included: by then the optimizer has its state, and kernels have tried out their
workspaces."""


class _StepsTaken(Exception):
    """Enough steps were taken. It ends the training where :func:`run_trial` asks whether to leave, with any loader."""


def device_need(attempt: Attempt, world: World) -> DeviceNeed:
    """The memory that the trial's own runner takes in :data:`STEPS` batches of this process's GPU.

    The peak is what torch's allocator reserved, which other processes cannot have, and not only what tensors filled of
    it. A :class:`TrialError` is passed over: a trial whose loss is not finite has taken its memory, too.

    Args:
        attempt: The trial.
        world: A world of one rank with a GPU.

    Raises:
        Exception: Whatever else the trial raises.
    """
    torch.cuda.init()
    gc.collect()
    torch.cuda.empty_cache()  # else the peak of the config before it would be this one's
    torch.cuda.reset_peak_memory_stats()
    full = False
    try:
        with contextlib.suppress(_StepsTaken):
            run_trial(attempt, world, lambda report: True, leave=_raising_after(STEPS))
    except OutOfMemory:
        full = True
    except TrialError:
        pass
    free, total = torch.cuda.mem_get_info()
    peak = None if full else int(torch.cuda.max_memory_reserved())
    return DeviceNeed(peak, max(0, total - free - int(torch.cuda.memory_reserved())), total)


def _raising_after(batches: int) -> Callable[[], bool]:
    batch = count(0)  # the first question comes before the first batch

    def leave() -> bool:
        if next(batch) >= batches:
            raise _StepsTaken
        return False

    return leave
