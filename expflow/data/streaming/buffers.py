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
        lent = np.frombuffer(memoryview(block), dtype=np.uint8)
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

    Pinned memory is torch's own, a piece for each field: its allocator gives a piece out again only when the copies to
    the device that began there have ended, which nobody else knows. Pageable memory is one aligned piece of ``spare``.
    """
    if pin:
        dtypes = {name: torch.from_numpy(np.empty(0, dtype)).dtype for name, (_, dtype) in shapes.items()}
        return {
            name: torch.empty((samples, *shape), dtype=dtypes[name], pin_memory=True)
            for name, (shape, _) in shapes.items()
        }
    block, at, tensors = spare.take(batch_bytes(shapes, samples)), 0, {}
    for name, taken in _sizes(shapes, samples).items():
        shape, dtype = shapes[name]
        tensors[name] = torch.from_numpy(block[at : at + taken].view(dtype).reshape(samples, *shape))
        at += _aligned(taken)
    return tensors


def _sizes(shapes: Shapes, samples: int) -> dict[str, int]:
    return {name: samples * math.prod(shape) * np.dtype(dtype).itemsize for name, (shape, dtype) in shapes.items()}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
