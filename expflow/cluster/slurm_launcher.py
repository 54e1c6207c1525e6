"""Jobs of a Slurm cluster: each is an allocation in which a Ray cluster lives as long as the sweep.

Slurm's own commands are used, from a machine that has them. A job's folder lies in the storage of the results, which
all nodes must reach in any case.
"""

from __future__ import annotations

import codecs
import hashlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from expflow.cluster.job_folder import (
    JobEnd,
    JobFolder,
    JobOrder,
    described_job,
    ended_job,
    job_folders,
    read_from,
    results_folder,
)
from expflow.cluster.launcher import JOB_PREFIX, STOPPED_EXIT_CODE, ClusterJob, Launcher, Submission, SweepRequest
from expflow.cluster.slurm_commands import SlurmState, job_states, run_slurm
from expflow.cluster.specs import SlurmLauncherSpec
from expflow.cluster.submission import PreparedSweep, prepare, withheld
from expflow.cluster.version_lock import PROBE, VersionDifference, differences, packages_of, parse_probe
from expflow.errors import AddressUnknown, Refused, UserError

JOBS_FOLDER = ".jobs"
"""Folder of jobs, beside the results."""
FREE_NODE_SECONDS = 40
"""How long a node is waited for that says which versions it has."""
PROBE_SECONDS = 30.0
"""How long a Python may take to say which versions it has."""
POLL_SECONDS = 1.0
"""How often a log that is followed is read."""
ASK_EVERY = 3
"""Every how many readings Slurm is asked whether the job goes on."""


class SlurmLauncher(Launcher):
    """Jobs of the Slurm cluster that this machine's commands lead to.

    Args:
        spec: What an allocation is made of.
        choice: The words of a command line that choose it.
        storage: The folder of all results, in which jobs are looked for.
    """

    def __init__(self, spec: SlurmLauncherSpec, choice: tuple[str, ...], storage: str) -> None:
        self._spec, self._root = spec, Path(storage) / JOBS_FOLDER
        self.place, self.choice = "Slurm", choice
        self.listed = f"with results in {storage}; --storage names another folder"

    def submit(self, requests: Sequence[SweepRequest]) -> list[Submission]:
        """See :meth:`Launcher.submit`; several experiments are one job array."""
        for request in requests:
            if "://" in request.storage:
                raise UserError(f"storage {request.storage} is no folder; a Slurm job needs one that all nodes mount")
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as locks:
            sweeps = prepare(requests, Path(scratch), self.choice)
            folders = {self._folder(sweep): sweep for sweep in sweeps}
            for folder in sorted(folders, key=lambda folder: folder.path):  # in one order: no two calls wait crosswise
                locks.enter_context(folder.locked())
            idle = [folder for folder in folders if not folder.holds_job or self._job(folder).over]
            for folder in idle:
                folder.fill(self._order(folders[folder]), folders[folder].package.path)
            if idle:
                self._send(idle)
        return [
            Submission(folder.job, self.place, folder not in idle, sweep.package.files, tuple(withheld(sweep.package)))
            for folder, sweep in folders.items()
        ]

    def _folder(self, sweep: PreparedSweep) -> JobFolder:
        name = sweep.job_name(shlex.join(sweep.arguments))
        return JobFolder(Path(sweep.request.storage) / JOBS_FOLDER / name)

    def _order(self, sweep: PreparedSweep) -> JobOrder:
        results = results_folder(sweep.request.storage, sweep.request.name)
        return JobOrder(sweep.request.name, results, sweep.arguments, dict(sweep.variables), self._spec.nodes)

    def _send(self, folders: Sequence[JobFolder]) -> None:
        """Submit one script for all folders, and write down what Slurm calls each."""
        several = len(folders) > 1
        name = _array_name(folders) if several else folders[0].job
        for index, folder in enumerate(folders):  # before it is sent: the answer may be lost
            folder.note("slurm", {"name": name, "index": index if several else None, "id": ""})
        script = folders[0].path / "job.sh"
        script.write_text(self._script(folders))
        options = [
            "--parsable",
            f"--job-name={name}",
            f"--output={folders[0].path / 'slurm.log'}",
            "--open-mode=append",
            *([f"--array=0-{len(folders) - 1}"] if several else []),
            *self._options(),
        ]
        answer = run_slurm("sbatch", *options, str(script))
        for index, folder in enumerate(folders):
            number = answer.strip().partition(";")[0] + (f"_{index}" if several else "")
            folder.note("slurm", {"name": name, "index": index if several else None, "id": number})

    def _options(self) -> list[str]:
        spec = self._spec
        valued = {
            "nodes": spec.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": spec.cpus,
            "gpus-per-node": spec.gpus or None,
            "mem": spec.memory,
            "time": spec.time,
            "partition": spec.partition,
            "account": spec.account,
            "signal": f"B:TERM@{spec.save_seconds}",
            "export": "NONE",  # the environment of who submits holds secrets
        }
        given = [f"--{option}={value}" for option, value in valued.items() if value is not None]
        return [*given, "--requeue", *spec.options]

    def _script(self, folders: Sequence[JobFolder]) -> str:
        python, save_seconds = shlex.quote(self._spec.python or sys.executable), self._spec.save_seconds - 5
        return "\n".join(
            [
                "#!/bin/bash",
                "umask 077",
                f"folders=({' '.join(shlex.quote(str(folder.path)) for folder in folders)})",
                'folder="${folders[${SLURM_ARRAY_TASK_ID:-0}]}"',
                'exec >> "$folder/log" 2>&1',
                "unset SLURM_EXPORT_ENV",
                'cd "$folder/project" || exit 3',
                *self._spec.setup,
                f'exec {python} -m expflow.cluster.ray_allocation "$folder" --save-seconds {save_seconds}',
                "",
            ]
        )

    def jobs(self) -> list[ClusterJob]:
        """See :meth:`Launcher.jobs`; those whose folders lie in the storage."""
        states = job_states()
        return [_readable_job_of(folder, states) for folder in job_folders(self._root)]

    def logs(self, job: str) -> str:
        """See :meth:`Launcher.logs`."""
        folder = self._existing(job)
        return folder.log.read_text(errors="replace") if folder.log.exists() else ""

    def follow(self, job: str, on_text: Callable[[str], None]) -> ClusterJob:
        """See :meth:`Launcher.follow`."""
        folder, place, rounds = self._existing(job), 0, 0
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        state = self._job(folder)
        while True:
            if rounds % ASK_EVERY == 0:
                state = self._job(folder)
            if content := read_from(folder.log, place):
                place += len(content)
                on_text(decoder.decode(content))
            elif state.over:
                return state
            else:
                time.sleep(POLL_SECONDS)
            rounds += 1

    def stop(self, job: str) -> ClusterJob:
        """See :meth:`Launcher.stop`: one that waits is taken from the queue, one that runs saves first."""
        folder = self._existing(job)
        before = self._job(folder)
        number = (folder.noted("slurm") or {}).get("id", "")
        if before.status == "RUNNING":
            run_slurm("scancel", "--batch", "--signal=TERM", number)
        elif not before.over:
            run_slurm("scancel", number)
            # Slurm forgets it, and the job never ran that would say how it ended.
            folder.write_end(JobEnd(STOPPED_EXIT_CODE, 0.0, time.time(), "taken from the queue"))
        return before

    def differences_at_once(self, locked: Mapping[str, str]) -> dict[str, list[VersionDifference]]:
        """See :meth:`Launcher.differences_at_once`: of the nodes' Python where this machine has it by the same path."""
        python = self._spec.python or sys.executable
        probe = [python, "-c", PROBE, *packages_of(locked)]
        if self._spec.setup:  # it may lead to another Python
            return {}
        try:
            done = subprocess.run(probe, capture_output=True, text=True, check=True, timeout=PROBE_SECONDS)  # noqa: S603
        except (OSError, subprocess.SubprocessError):
            return {}
        return {python: differences(locked, parse_probe(done.stdout, python))}

    def versions(self, packages: Sequence[str]) -> dict[str, dict[str, str]]:
        """See :meth:`Launcher.versions`; of one node, which Slurm chooses."""
        spec, python = self._spec, self._spec.python or sys.executable
        probe = shlex.join([python, "-c", PROBE, *packages])
        valued = {"partition": spec.partition, "account": spec.account, "export": "NONE"}
        options = [f"--{option}={value}" for option, value in valued.items() if value is not None]
        step = ["--nodes=1", "--ntasks=1", "--time=5", f"--immediate={FREE_NODE_SECONDS}", *options, *spec.options]
        shown = run_slurm(
            "srun", *step, "/bin/bash", "-c", "\n".join([*spec.setup, f'echo "$SLURMD_NODENAME"; {probe}'])
        )
        node = shown.strip().splitlines()[0] if shown.strip() else self.place
        return {node: parse_probe(shown, node)}

    def _existing(self, job: str) -> JobFolder:
        folder = JobFolder(self._root / job)
        if "/" in job or not folder.holds_job:
            there = [other.job for other in job_folders(self._root)][:5]
            listed = f"the latest there: {', '.join(there)}" if there else "there are none"
            raise AddressUnknown(f"no job {job!r} in {self._root}; {listed}")
        return folder

    def _job(self, folder: JobFolder) -> ClusterJob:
        return _job_of(folder, job_states())


def _array_name(folders: Sequence[JobFolder]) -> str:
    digest = hashlib.sha256("\0".join(folder.job for folder in folders).encode()).hexdigest()[:8]
    return f"{JOB_PREFIX}array-{digest}"


def _readable_job_of(folder: JobFolder, states: Sequence[SlurmState]) -> ClusterJob:
    """A job among others: one whose record is damaged says so, and hides none of them."""
    try:
        return _job_of(folder, states)
    except Refused as error:
        return ClusterJob(folder.job, "FAILED", message=str(error))


def _job_of(folder: JobFolder, states: Sequence[SlurmState]) -> ClusterJob:
    """A job from its folder and from what Slurm says."""
    state, end = _state_of(folder, states), folder.end()
    job = described_job(folder.job, folder.order())
    if state is not None and (end is None or state.status in ("PENDING", "RUNNING")):
        return replace(job, status=state.status, message=state.reason, started=state.started)
    if end is not None:
        return ended_job(job, end)
    return replace(job, message="Slurm does not know it any more, and it did not say how it ended")


def _state_of(folder: JobFolder, states: Sequence[SlurmState]) -> SlurmState | None:
    """What Slurm says of a job; where the answer to sbatch was lost, by its name."""
    note = folder.noted("slurm") or {}
    if note.get("id"):
        return next((state for state in states if state.number == note["id"]), None)
    index = note.get("index")
    suffix = "" if index is None else f"_{index}"
    named = [state for state in states if state.name == note.get("name") and state.number.endswith(suffix)]
    if not named:
        return None
    latest = max(named, key=lambda state: state.serial)  # earlier runs of the same job have the same name
    folder.note("slurm", {**note, "id": latest.number})
    return latest
