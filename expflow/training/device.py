"""What a trial takes of a GPU, by really taking its first steps there."""

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


class _Enough(Exception):
    """The steps are taken. It leaves the training where :func:`run_trial` asks whether to leave, with any loader."""


def device_need(attempt: Attempt, world: World) -> DeviceNeed:
    """The memory that the trial's own runner takes in :data:`STEPS` batches of this process's GPU.

    Peak is what torch's allocator reserved, which other processes cannot have, and not only what tensors filled of it.
    Raises what the trial raises, besides a :class:`TrialError`: a loss that is not finite has taken its memory, too.
    """
    torch.cuda.init()  # type: ignore[no-untyped-call]
    gc.collect()
    torch.cuda.empty_cache()  # else the peak of the config before it would be this one's
    torch.cuda.reset_peak_memory_stats()
    full = False
    try:
        with contextlib.suppress(_Enough):
            run_trial(attempt, world, lambda report: True, leave=_raising_after(STEPS))
    except OutOfMemory:
        full = True
    except TrialError:
        pass
    free, total = torch.cuda.mem_get_info()
    peak = None if full else int(torch.cuda.max_memory_reserved())
    return DeviceNeed(peak, max(0, total - free - int(torch.cuda.memory_reserved())), total)


def _raising_after(batches: int) -> Callable[[], bool]:
    asked = count(1)

    def leave() -> bool:
        if next(asked) >= batches:
            raise _Enough
        return False

    return leave
