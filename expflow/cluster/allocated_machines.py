"""Which machines a job was given, as the environment of one of its processes tells."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from expflow.errors import UserError
from expflow.sweep.ray_address import NODES_VARIABLE


class AllocatedMachines(ABC):
    """The machines of one job."""

    count: int
    """How many there are, with the one that has the head."""

    @abstractmethod
    def address(self) -> str:
        """The address by which the others reach this machine."""

    @abstractmethod
    def resources(self) -> dict[str, int]:
        """What of this machine the job may use: ``cpus`` and ``gpus``; what is left out, Ray finds out."""

    @abstractmethod
    def start_others(self, folder: Path, head: str) -> subprocess.Popen[bytes] | None:
        """Have every other machine join the head.

        Args:
            folder: The job's folder.
            head: Address and port of the head.

        Returns:
            A process that lives as long as they do, and ends them when it is ended; None where there are no others,
            or where each is started by who submitted the job.
        """


class SlurmMachines(AllocatedMachines):
    """The nodes of a Slurm allocation.

    Args:
        environment: What Slurm set in a batch script or in a step.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.count = int(environment.get("SLURM_JOB_NUM_NODES", "1"))

    def address(self) -> str:
        """The address that Slurm itself uses for this node."""
        node = self._environment.get("SLURMD_NODENAME", "")
        shown = _output("scontrol", "show", "node", node, "--oneliner")
        words = dict(word.partition("=")[::2] for word in shown.split() if "=" in word)
        return socket.gethostbyname(words.get("NodeAddr") or node)

    def resources(self) -> dict[str, int]:
        """The CPUs of this node that the allocation has; GPUs are those that Slurm lets the process see."""
        cpus = self._environment.get("SLURM_CPUS_ON_NODE", "")
        return {"cpus": int(cpus)} if cpus.isdigit() else {}

    def start_others(self, folder: Path, head: str) -> subprocess.Popen[bytes] | None:
        """One step with a task on each other node."""
        others = self.count - 1
        if not others:
            return None
        here = self._environment.get("SLURMD_NODENAME", "")
        step = ["srun", f"--nodes={others}", f"--ntasks={others}", f"--exclude={here}", "--kill-on-bad-exit=0"]
        join = [sys.executable, "-m", "expflow.cluster.ray_allocation", str(folder), "--join", head]
        with (folder / "nodes.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [*step, *join],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class SshMachines(AllocatedMachines):
    """Machines that ssh was asked for one by one.

    Args:
        environment: What sshd set, and the number of machines.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._connection = environment.get("SSH_CONNECTION", "").split()
        self.count = int(environment.get(NODES_VARIABLE, "1"))

    def address(self) -> str:
        """The address at which sshd was reached."""
        if len(self._connection) != 4:
            raise UserError("SSH_CONNECTION does not say at which address this machine was reached")
        return self._connection[2]

    def resources(self) -> dict[str, int]:
        """Nothing: the whole machine is the user's."""
        return {}

    def start_others(self, folder: Path, head: str) -> None:
        """Nothing: each is started by who submitted the job."""


def machines_of(environment: Mapping[str, str]) -> AllocatedMachines:
    """The machines of the job that this process belongs to.

    Args:
        environment: The process's environment.

    Raises:
        UserError: It belongs to none.
    """
    if "SLURM_JOB_ID" in environment:
        return SlurmMachines(environment)
    if "SSH_CONNECTION" in environment:
        return SshMachines(environment)
    raise UserError("this command is run by `expflow submit`, in a Slurm allocation or through ssh")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout  # noqa: S603
