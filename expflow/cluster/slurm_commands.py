"""Slurm's commands, and what they say of jobs."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

from expflow.errors import PackageMissing, ServerUnreachable

PATIENCE_SECONDS = 60.0
"""How long a command of Slurm may take; its controller is asked again by itself meanwhile."""

_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_WORKING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
_FIELDS = "%i|%j|%T|%S|%r"


@dataclass(frozen=True)
class SlurmState:
    """One job, or one member of a job array.

    Attributes:
        number: Slurm's number, with ``_INDEX`` for a member of an array.
        name: Its name.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        reason: Slurm's word for the state, and why.
        started: When it started, in unix seconds; 0.0 before.
    """

    number: str
    name: str
    status: str
    reason: str
    started: float

    @property
    def serial(self) -> int:
        """Slurm's number without a member's index: later jobs have higher ones."""
        digits = self.number.partition("_")[0]
        return int(digits) if digits.isdigit() else 0


def run_slurm(*command: str) -> str:
    """Run a command of Slurm; returns what it printed.

    Args:
        *command: Its words.

    Raises:
        PackageMissing: This machine has no such command.
        ServerUnreachable: Slurm refuses, or does not answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)  # noqa: S603
    except FileNotFoundError as error:
        raise PackageMissing(
            f"{command[0]} is not installed here: run this command on a machine of the Slurm cluster"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ServerUnreachable(f"{command[0]} got no answer from Slurm in {PATIENCE_SECONDS:.0f} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ServerUnreachable(f"{command[0]} failed: {lines[-1]}")
    return done.stdout


def job_states() -> list[SlurmState]:
    """What Slurm says of this user's jobs: those that wait or run, and those that ended minutes ago. Raises as
    :func:`run_slurm`."""
    listed = run_slurm("squeue", "--me", "--noheader", "--array", "--states=all", f"--format={_FIELDS}")
    return [_state(line) for line in listed.splitlines() if line.count("|") >= 4]


def _state(line: str) -> SlurmState:
    number, name, word, started, reason = line.split("|", 4)
    if word in _WAITING:
        status = "PENDING"
    elif word in _WORKING:
        status = "RUNNING"
    else:
        status = {"COMPLETED": "SUCCEEDED", "CANCELLED": "STOPPED"}.get(word, "FAILED")
    why = "" if reason in ("", "None") else f" ({reason})"
    return SlurmState(number, name, status, f"{word}{why}", _seconds(started))


def _seconds(text: str) -> float:
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0
