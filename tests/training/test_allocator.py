"""Freed memory stays with a process while it trains, and goes back to the system between trials."""

import subprocess
import sys

import pytest

from expflow.training import allocator

MEASURE = """
import ctypes, resource, sys, torch
from expflow.training.isolation import isolated

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        kept = [torch.ones(5 * 2**20) for _ in range(4)]
        del kept
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps

def resident():
    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()

# As glibc begins; by itself it raises this threshold, and whether it then trims depends on what lies above the tensors.
ctypes.CDLL(None).mallopt(-3, 128 * 2**10)
faults(5)
control = faults(10)
with isolated(threads=1, deterministic=False):
    faults(5)
    inside, held = faults(10), resident()
print(control, inside, held, resident())
"""


@pytest.mark.skipif(not allocator.keep_freed_memory(), reason="this system's C library is not glibc")
def test_steps_fault_no_pages_in_and_a_trial_leaves_no_memory_behind():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    control, inside, held, after = map(float, done.stdout.split())
    assert control > 1000, "without it each step faults its tensors' pages in; else there is nothing to show"
    assert inside < 10
    assert held - after > 60 * 2**20


def test_a_c_library_that_does_not_know_how_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_freed_memory.cache_clear()
    assert not allocator.keep_freed_memory()
    allocator.give_memory_back()
    allocator.keep_freed_memory.cache_clear()
