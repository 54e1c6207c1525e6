"""The environment variables by which a launcher tells its processes where they stand.

A trial's ranks are told by expflow where they stand. What Slurm, MPI, LSF, PBS or torchrun have said to the process
that started expflow is about that process. Inside a trial Lightning, torch and the user's code would read it as their
own place: with ``SLURM_NTASKS=2`` every trial of one rank would wait for a second one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

LAUNCHER_PREFIXES = (
    "SLURM_",
    "SLURMD_",
    "PMI_",
    "PMIX_",
    "PMI2_",
    "OMPI_",
    "PRTE_",
    "MV2_COMM_",
    "MPI_LOCALRANKID",
    "MPI_LOCALNRANKS",
    "I_MPI_",
    "HYDRA_",
    "FLUX_",
    "ALPS_APP_",
    "PALS_",
    "LSB_",
    "LSF_",
    "JSM_",
    "PBS_",
    "OAR_",
    "TORCHELASTIC_",
    "MASTER_",
)
"""Beginnings of what batch systems, MPI and torchrun set."""

LAUNCHER_NAMES = frozenset(
    {
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "NODE_RANK",
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
        "ROLE_RANK",
        "ROLE_NAME",
        "ROLE_WORLD_SIZE",
        "STANDALONE_PORT",
    }
)
"""What torchrun and Lightning set besides."""


def is_launcher_variable(name: str) -> bool:
    """Whether a launcher sets a variable.

    Args:
        name: The variable's name.
    """
    return name in LAUNCHER_NAMES or name.startswith(LAUNCHER_PREFIXES)


@contextmanager
def without_launcher_variables() -> Iterator[None]:
    """In the body this process has no variable of a launcher; afterwards they are as they were."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if is_launcher_variable(name)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if is_launcher_variable(name)]:
            del os.environ[name]
        os.environ.update(hidden)
