"""Jobs on workstations that are reached by ssh.

ssh's own settings say how: keys, jump hosts, names. What runs there is a script of the standard library that is sent
with each call, and then the job's own processes, which need nobody who stays connected.
"""

from __future__ import annotations

import codecs
import io
import json
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from expflow.cluster import job_progress
from expflow.cluster.job_folder import JobEnd, JobFolder, JobOrder, described_job, ended_job, results_folder
from expflow.cluster.launcher import ClusterJob, Launcher, Submission, SweepRequest, by_job
from expflow.cluster.remote_calls import BOOTSTRAP, agent_script, receive_results
from expflow.cluster.result_fetching import LEFT_THERE
from expflow.cluster.specs import SshLauncherSpec
from expflow.cluster.submission import PreparedSweep, prepare, withheld
from expflow.cluster.version_lock import PROBE, VersionDifference, differences, packages_of, parse_probe
from expflow.errors import AddressUnknown, PackageMissing, ServerUnreachable

PATIENCE_SECONDS = 180.0
"""How long one call may take; sending a package of 100 MB counts as one."""
POLL_SECONDS = 2.0
"""How often a log that is followed is read."""
AWAY_SECONDS = 600.0
"""How long a machine that stopped answering is waited for while its log is followed."""


class SshLauncher(Launcher):
    """Jobs on the machines of one spec; the driver and the job's folder are on the first.

    Args:
        spec: The machines.
        choice: The words of a command line that choose them.
        storage: Not needed here.
    """

    def __init__(self, spec: SshLauncherSpec, choice: tuple[str, ...], storage: str = "") -> None:
        self._spec, self.choice, self.place = spec, choice, ", ".join(spec.hosts)

    def submit(self, requests: Sequence[SweepRequest]) -> list[Submission]:
        """See :meth:`Launcher.submit`; the machines are the user's, so several experiments share them."""
        with tempfile.TemporaryDirectory() as scratch:
            return [self._send(sweep, Path(scratch)) for sweep in prepare(requests, Path(scratch), self.choice)]

    def _send(self, sweep: PreparedSweep, scratch: Path) -> Submission:
        request = sweep.request
        results = results_folder(request.storage, request.name)
        order = JobOrder(request.name, results, sweep.arguments, dict(sweep.variables), len(self._spec.hosts))
        job = sweep.job_name(shlex.join(sweep.arguments))
        folder = JobFolder(scratch / job)
        folder.fill(order, sweep.package.path)
        folder.make_token()
        head, *others = self._spec.hosts
        common = {"job": job, "python": self._spec.python, "nodes": len(self._spec.hosts)}
        begun = self._call(head, "begin", data=_packed(folder.path), **common)
        submission = Submission(
            job, self.place, begun["already_running"], sweep.package.files, tuple(withheld(sweep.package))
        )
        if begun["head"] is None:
            if begun["already_running"]:
                return submission
            lines = self.logs(job).strip().splitlines() or ["it printed nothing"]
            raise ServerUnreachable(f"the job did not start on {head}: {lines[-1]}")
        folder.token_file.write_text(begun["token"])  # of a job that runs already: its own
        try:  # also where an earlier call was cut off before it came to them
            for number, host in enumerate(others, start=1):
                role = f"node-{number}"
                self._call(host, "join", data=_packed(folder.path), **common, role=role, head=begun["head"])
        except ServerUnreachable:
            if not submission.already_running:  # nobody would know of it
                self._call(head, "stop", job=job)
            raise
        return submission

    def jobs(self) -> list[ClusterJob]:
        """See :meth:`Launcher.jobs`."""
        listed = self._call(self._spec.hosts[0], "list")
        return [_job_of(record) for record in sorted(listed, key=lambda record: -record["sent"])]

    def logs(self, job: str) -> str:
        """See :meth:`Launcher.logs`."""
        self._existing(job)
        content, place = b"", 0
        while True:
            answer = self._call(self._spec.hosts[0], "log", job=job, offset=place)
            if answer["place"] == place:
                return content.decode(errors="replace")
            content, place = content + answer["text"].encode("latin-1"), answer["place"]

    def follow(self, job: str, on_text: Callable[[str], None]) -> ClusterJob:
        """See :meth:`Launcher.follow`; a machine that does not answer is asked again."""
        self._existing(job)
        place, heard = 0, time.monotonic()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                answer = self._call(self._spec.hosts[0], "log", job=job, offset=place)
            except ServerUnreachable:
                if time.monotonic() - heard > AWAY_SECONDS:
                    raise
                time.sleep(POLL_SECONDS)
                continue
            heard, moved, place = time.monotonic(), answer["place"] > place, answer["place"]
            if text := decoder.decode(answer["text"].encode("latin-1")):
                on_text(text)
            if moved:
                continue
            if not answer["alive"]:
                return self._existing(job)
            time.sleep(POLL_SECONDS)

    def stop(self, job: str) -> ClusterJob:
        """See :meth:`Launcher.stop`."""
        before = self._existing(job)
        self._call(self._spec.hosts[0], "stop", job=job)
        return before

    def fetch(self, job: str, results: str, target: Path) -> None:
        """See :meth:`Launcher.fetch`; through ssh, since a path may mean something else on each machine."""
        host = self._spec.hosts[0]
        self._existing(job)
        command, script = self._command(host, "send", job=job, left_out=list(LEFT_THERE))
        receive_results(command, script, target, f"{host} did not send all results of {job}")

    def check_fetch(self, storage: str) -> None:
        """See :meth:`Launcher.check_fetch`; what the first machine can read, ssh brings."""

    def progress(self, jobs: Sequence[ClusterJob]) -> dict[str, str]:
        """See :meth:`Launcher.progress`; the first machine reads its own folders."""
        folders = sorted({job.results for job in jobs if job.results})
        if not folders:
            return {}
        command = [self._spec.python, "-m", job_progress.MODULE, *folders]
        shown = self._call(self._spec.hosts[0], "run", command=command, job=jobs[0].id)
        return by_job(jobs, job_progress.parse_progress(shown))

    def differences_at_once(self, locked: Mapping[str, str]) -> dict[str, list[VersionDifference]]:
        """See :meth:`Launcher.differences_at_once`: of every machine, since a call of ssh is no job."""
        versions = self.versions(packages_of(locked))
        return {host: differences(locked, there) for host, there in versions.items()}

    def versions(self, packages: Sequence[str]) -> dict[str, dict[str, str]]:
        """See :meth:`Launcher.versions`; of every machine."""
        command = [self._spec.python, "-c", PROBE, *packages]
        return {host: parse_probe(self._call(host, "run", command=command), host) for host in self._spec.hosts}

    def _existing(self, job: str) -> ClusterJob:
        there = self.jobs()
        named = next((other for other in there if other.id == job), None)
        if named is None:
            latest = [other.id for other in there][:5]
            listed = f"the latest there: {', '.join(latest)}" if latest else "there are none"
            raise AddressUnknown(f"{self._spec.hosts[0]} has no job {job!r}; {listed}")
        return named

    def _call(self, host: str, action: str, data: bytes = b"", **arguments: Any) -> Any:
        """Run one action of the remote agent; returns its answer."""
        command, script = self._command(host, action, **arguments)
        try:
            done = subprocess.run(  # noqa: S603
                command,
                input=script + data,
                capture_output=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise PackageMissing(
                "ssh is not installed here; on Debian and Ubuntu: apt install openssh-client"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ServerUnreachable(f"{host} did not answer in {PATIENCE_SECONDS:.0f} s") from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
            raise ServerUnreachable(f"{host} cannot be used through ssh: {lines[-1]}")
        try:  # what a login prints stands before
            return json.loads(done.stdout.strip().splitlines()[-1])["answer"]
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise ServerUnreachable(f"{host} answered something else than a job's state") from error

    def _command(self, host: str, action: str, **arguments: Any) -> tuple[list[str], bytes]:
        """The command that runs one action of the remote agent, and what it reads first."""
        there = shlex.join([self._spec.python, "-c", BOOTSTRAP])
        options = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", *self._spec.options]
        script = agent_script(action, root=self._spec.folder, **arguments)
        return ["ssh", *options, "--", host, there], script


def _packed(folder: Path) -> bytes:
    """A job's folder as a tar, which belongs to nobody in particular."""
    buffer = io.BytesIO()

    def own(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name, filter=own)
    return buffer.getvalue()


def _job_of(record: dict[str, Any]) -> ClusterJob:
    order = JobOrder(**{**record["order"], "arguments": tuple(record["order"]["arguments"])})
    job = described_job(record["job"], order)
    if record["alive"]:
        return replace(job, status="RUNNING", started=record["sent"])
    if record["end"] is not None:
        return ended_job(job, JobEnd(**record["end"]))
    return replace(job, message="its process is gone and did not say how it ended")
