"""All checks, in the order in which one would mend things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expflow.doctor import machine, packages, services
from expflow.doctor.check import Check


@dataclass(frozen=True)
class Surroundings:
    """What differs between machines, as far as the checks need it. ``storage`` may be an address such as s3://…"""

    storage: str
    cache: Path
    tracking: str
    ray: str = ""
    """The address of a Ray head; "" where none is configured."""


def examine(where: Surroundings, *, quick: bool = False) -> Iterator[Check]:
    """The checks, each yielded as soon as it is done. ``quick`` leaves out the one that imports torch."""
    yield packages.check_python()
    yield from packages.check_packages()
    yield packages.check_torch_pair()
    yield machine.check_cores()
    yield machine.check_memory()
    if "://" not in where.storage:
        yield machine.check_folder("storage", Path(where.storage).absolute())
    yield machine.check_folder("data cache", where.cache)
    yield machine.check_git()
    yield from machine.check_ray_limits()
    yield services.check_tracking(where.tracking)
    yield from services.check_ray(where.ray)
    if not quick:
        operators, gpus = packages.probe_torch()
        yield operators
        if gpus is not None:
            yield gpus
            yield from machine.check_driver(gpus_of_torch=gpus.found != packages.NO_GPU)
