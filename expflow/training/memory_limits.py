"""Limits of memory: an error that says what would help, and a rank's share of its GPU."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from expflow.config.component_specs import source_spec
from expflow.config.schema import Recipe
from expflow.errors import OutOfMemory, UserError
from expflow.training.contract import World
from expflow.training.peak_memory import device_peak_bytes, peak_bytes, reset_peak

_CPU_MESSAGES = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
"""In the messages of torch's CPU allocator, which raises a plain RuntimeError."""


@contextmanager
def explained_out_of_memory(recipe: Recipe, world: World) -> Iterator[None]:
    """Run the body, and explain where it runs out of memory, on the device or on the host.

    Args:
        recipe: What is trained; its batch size is named.
        world: This rank's share of a GPU, which is named, too.

    Raises:
        OutOfMemory: The body ran out of memory. The peak is that of the body alone, where the system can count anew.
    """
    reset_peak()
    try:
        yield
        return
    except (MemoryError, RuntimeError, UserError) as raised:
        # Whoever builds a network says so in an error of ours, of which torch's is the cause.
        error = raised.__cause__ if isinstance(raised, UserError) and raised.__cause__ is not None else raised
        if not _is_out_of_memory(error):
            raise
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    # outside of the handler nothing holds the failed step's tensors any more
    peak, where = device_peak_bytes(), "on the device"
    if peak is not None:
        torch.cuda.empty_cache()
    else:
        peak, where = peak_bytes() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "in this process"
    size = source_spec(recipe.data).samples_per_batch
    batch = f" with data.batch_size {size}" if size is not None else ""
    share = ""
    if world.gpus and world.trials_per_gpu > 1:
        where += f", whose memory {world.trials_per_gpu} trials share ({world.gpu_memory:.0%} for each)"
        share = ", a larger resources.gpus_per_rank gives more"
    raise OutOfMemory(
        f"out of memory{batch}, at a peak of {peak / 2**30:.2f} GiB {where}; a smaller batch with trainer.accumulate"
        f" takes less{share} ({cause})"
    )


@contextmanager
def within_gpu_share(world: World) -> Iterator[None]:
    """Run the body with torch held to the rank's share of its GPU, so that a trial that grows takes none of another's.

    Afterwards the process may take all of the GPU, as before. CUDA's own memory is not counted by torch.

    Args:
        world: This rank's share of a GPU.
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
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_MESSAGES)
