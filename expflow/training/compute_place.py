"""What a trial is computed on, as far as its numbers may depend on it."""

from __future__ import annotations

import torch

from expflow.training.contract import World


def compute_place(world: World) -> dict[str, int | str]:
    """Ranks, threads of each, and the device: the GPU's name, or the instructions that torch uses on this CPU.

    Args:
        world: A rank's place among the trial's ranks.
    """
    on_gpu = world.gpus and torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"cpu ({torch.backends.cpu.get_cpu_capability()})"
    return {"ranks": world.ranks, "threads": world.threads, "device": device}
