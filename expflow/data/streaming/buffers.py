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


class Spare:
    """Blocks of memory that nothing uses any more, at most ``most`` of them."""

    def __init__(self, most: int) -> None:
        # A deque's methods are atomic: blocks come back from wherever the garbage collector happens to run.
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=most)

    def take(self, size: int) -> NDArray[np.uint8]:
        """At least ``size`` bytes, not cleared. They come back by themselves when the last array and tensor that shares
        them is gone: a consumer may keep a batch as long as it likes.
        """
        block = self._fitting(size)
        lent = np.frombuffer(block.data, dtype=np.uint8)
        # Views of `lent` keep `lent` itself, since its memory is not an array's but a memoryview's.
        weakref.finalize(lent, self._free.append, block).atexit = False
        return lent

    def _fitting(self, size: int) -> NDArray[np.uint8]:
        """A spare block that is large enough; those that are not are let go."""
        while self._free:
            try:
                block = self._free.pop()
            except IndexError:
                break
            if len(block) >= size:
                return block
        return np.empty(size, dtype=np.uint8)


def batch_bytes(shapes: Shapes, samples: int) -> int:
    """What the tensors of :func:`new_batch` take."""
    return sum(_aligned(size) for size in _sizes(shapes, samples).values())


def new_batch(shapes: Shapes, samples: int, spare: Spare, *, pin: bool) -> dict[str, torch.Tensor]:
    """Uninitialised tensors for ``samples`` samples; ``pin`` puts them where a device can fetch them by itself.

    Images are (samples, channels, height, width) with channels last in memory, as decoders write and convolutions read.
    Pinned memory is torch's own, a piece for each field: its allocator gives a piece out again only when the copies to
    the device that began there have ended, which nobody else knows. Pageable memory is one aligned piece of ``spare``.
    """
    sizes = _sizes(shapes, samples)
    if pin:
        blocks = {name: torch.empty(size, dtype=torch.uint8, pin_memory=True) for name, size in sizes.items()}
    else:
        piece, at, blocks = torch.from_numpy(spare.take(batch_bytes(shapes, samples))), 0, {}
        for name, size in sizes.items():
            blocks[name] = piece[at : at + size]
            at += _aligned(size)
    return {name: _shaped(blocks[name], samples, *shapes[name]) for name in shapes}


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
