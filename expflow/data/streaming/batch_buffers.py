"""Memory for batches, used again and again: fresh pages for each batch would cost a fault per 4 KiB."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
"""One array per field; the first axis counts samples."""

Shapes = Mapping[str, tuple[tuple[int, ...], Any]]
"""A field's shape of one sample, and its dtype."""

ALIGNMENT = 64


class BufferPool:
    """Blocks of memory that no batch uses any more.

    Args:
        size: How many blocks are kept at most.
    """

    def __init__(self, size: int) -> None:
        # A deque's methods are atomic: blocks come back from wherever the garbage collector happens to run.
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=size)

    def take(self, size: int) -> NDArray[np.uint8]:
        """A block, not cleared. It comes back by itself when the last array and tensor that shares it is gone: a
        consumer may keep a batch as long as it likes.

        Args:
            size: How many bytes it must have at least.
        """
        block = self._fitting(size)
        lent = np.frombuffer(block.data, dtype=np.uint8)
        # Views of `lent` keep `lent` itself, since its memory is not an array's but a memoryview's.
        weakref.finalize(lent, self._free.append, block).atexit = False
        return lent

    def _fitting(self, size: int) -> NDArray[np.uint8]:
        """A kept block that is large enough; those that are not are dropped."""
        while self._free:
            try:
                block = self._free.pop()
            except IndexError:
                break
            if len(block) >= size:
                return block
        return np.empty(size, dtype=np.uint8)


def batch_bytes(shapes: Shapes, samples: int) -> int:
    """How many bytes the tensors of :func:`new_batch` take.

    Args:
        shapes: The fields of one sample.
        samples: The batch's number of samples.
    """
    return sum(_aligned(size) for size in _sizes(shapes, samples).values())


def new_batch(shapes: Shapes, samples: int, buffers: BufferPool, *, pin: bool) -> dict[str, torch.Tensor]:
    """Uninitialised tensors for a batch.

    Images are (samples, channels, height, width) with channels last in memory, as decoders write and convolutions read.
    Pinned memory is torch's own, a piece for each field: its allocator gives a piece out again only when the copies to
    the device that began there have ended, which only torch knows. Pageable memory is one aligned piece of ``buffers``.

    Args:
        shapes: The fields of one sample.
        samples: The batch's number of samples.
        buffers: Gives the pageable memory.
        pin: Whether the memory is pinned, so that a device can fetch it by itself.
    """
    sizes = _sizes(shapes, samples)
    if pin:
        blocks = {name: torch.empty(size, dtype=torch.uint8, pin_memory=True) for name, size in sizes.items()}
    else:
        piece, offset, blocks = torch.from_numpy(buffers.take(batch_bytes(shapes, samples))), 0, {}
        for name, size in sizes.items():
            blocks[name] = piece[offset : offset + size]
            offset += _aligned(size)
    return {name: _shaped(blocks[name], samples, *shapes[name]) for name in shapes}


def trains_on_gpu() -> bool:
    """Whether this process trains on a GPU: pinning memory for one that it does not use would occupy that GPU."""
    # not is_available(): it looks for the driver anew each time, half a millisecond where there is none
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _shaped(block: torch.Tensor, samples: int, shape: tuple[int, ...], dtype: Any) -> torch.Tensor:
    """The bytes of ``block`` as ``samples`` samples."""
    values = block.view(torch.from_numpy(np.empty(0, dtype)).dtype)
    if len(shape) != 3:
        return values.view(samples, *shape)
    channels, height, width = shape
    return values.view(samples, height, width, channels).permute(0, 3, 1, 2)


def _sizes(shapes: Shapes, samples: int) -> dict[str, int]:
    return {name: samples * math.prod(shape) * np.dtype(dtype).itemsize for name, (shape, dtype) in shapes.items()}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
