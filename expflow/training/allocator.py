"""Settings of the C library's allocator: freed memory is kept between steps and given back between trials.

A training step on the CPU allocates and frees the same tensors again and again. glibc hands a large one back to the
system at once and faults its pages in anew: 2,500 page faults a step for a ResNet-56 on 8x8 images, a tenth of the
step's time. See mallopt(3) and glibc's manual, section "Memory Allocation Tunables".
"""

from __future__ import annotations

import ctypes
from functools import cache

TUNABLES = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
"""Environment variable and value with which a new process lays its heap on huge pages, where the system offers them."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_LARGEST_ON_HEAP = 32 * 2**20  # glibc refuses a higher threshold; an array above it is returned when it is freed
_KEPT = 2**30
_GROWN_BY = 64 * 2**20
_M_ARENA_MAX = -8
_HEAPS = 4


@cache
def keep_freed_memory() -> bool:
    """Let freed memory stay with this process.

    Returns:
        Whether the C library can do so (glibc can).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, _GROWN_BY))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)


def share_heaps() -> None:
    """Let the threads of this process, and of its forks, share a few heaps, before there are any.

    By itself glibc gives each thread a heap, up to eight for each core. Ray's worker has 25 threads, and a heap of one
    begins with one or two huge pages: together they were a third of a forked rank's memory.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, _HEAPS)


def give_memory_back() -> None:
    """Return free memory to the system, so that the next trial's memory is counted from the same start."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
