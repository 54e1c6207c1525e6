"""All checks, in the order in which problems are best mended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expflow.doctor import machine_checks, package_checks, service_checks
from expflow.doctor.check_result import CheckResult


@dataclass(frozen=True)
class DoctorTargets:
    """What is checked, as far as it differs between machines.

    Attributes:
        storage: The folder of all results; it may be an address such as s3://….
        cache: The folder of prepared data.
        tracking: The address of the MLflow store.
        ray: The address of a Ray head; "" where none is configured.
    """

    storage: str
    cache: Path
    tracking: str
    ray: str = ""


def run_checks(where: DoctorTargets, *, quick: bool = False) -> Iterator[CheckResult]:
    """The results of all checks, each yielded as soon as it is done.

    Args:
        where: What is checked.
        quick: Whether to leave out the check that imports torch.
    """
    yield package_checks.check_python()
    yield from package_checks.check_packages()
    yield package_checks.check_torch_pair()
    yield from package_checks.check_lightning_pair()
    yield machine_checks.check_cores()
    yield machine_checks.check_memory()
    if "://" not in where.storage:
        yield machine_checks.check_folder("storage", Path(where.storage).absolute())
    yield machine_checks.check_folder("data cache", where.cache)
    yield machine_checks.check_git()
    yield from machine_checks.check_ray_limits()
    yield service_checks.check_tracking(where.tracking)
    yield from service_checks.check_ray(where.ray)
    if not quick:
        operators, gpus = package_checks.probe_torch()
        yield operators
        if gpus is not None:
            yield gpus
            yield from machine_checks.check_driver(gpus_of_torch=gpus.finding != package_checks.NO_GPU)
