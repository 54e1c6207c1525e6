"""Running out of memory, by the name of what would help: the batch size, and how much was in use."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from expflow.config.schema import Recipe
from expflow.errors import OutOfMemory
from expflow.training.contract import World
from expflow.training.peaks import device_peak_bytes, peak_bytes, reset_peak

_ON_CPU = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
"""What torch's CPU allocator says, as a plain RuntimeError."""


@contextmanager
def memory_watched(recipe: Recipe, world: World) -> Iterator[None]:
    """Run the body; raise :class:`OutOfMemory` where it runs out of memory, on the device or on the host.

    The peak is that of the body alone, where the system can count anew.
    """
    reset_peak()
    try:
        yield
        return
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    # outside of the handler nothing holds the failed step's tensors any more
    peak, where = device_peak_bytes(), "on the device"
    if peak is not None:
        torch.cuda.empty_cache()
    else:
        peak, where = peak_bytes() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "in this process"
    size = getattr(recipe.data, "batch_size", None)
    batch = f" with data.batch_size {size}" if size is not None else ""
    share = ""
    if world.gpus and world.sharing > 1:
        where += f", whose memory {world.sharing} trials share ({world.gpu_memory:.0%} for each)"
        share = ", a larger resources.gpus_per_rank gives more"
    raise OutOfMemory(
        f"out of memory{batch}, at a peak of {peak / 2**30:.2f} GiB {where}; a smaller batch with trainer.accumulate"
        f" takes less{share} ({said})"
    )


@contextmanager
def within_share(world: World) -> Iterator[None]:
    """Run the body with torch held to the rank's share of its GPU, so that a trial that grows takes none of another's.

    Afterwards the process may take all of the GPU, as before. CUDA's own memory is outside of what torch holds back.
    """
    if not world.gpus or world.gpu_memory >= 1:
        yield
        return
    torch.cuda.set_per_process_memory_fraction(world.gpu_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ON_CPU)
