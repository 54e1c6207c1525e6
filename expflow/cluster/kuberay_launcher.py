"""Jobs of a Kubernetes cluster with KubeRay's operator: each is a RayJob, whose Ray cluster ends with the sweep.

``kubectl`` is used, with its own settings and rights. The operator draws the token of each Ray cluster; it never comes
here. A job is listed as long as its RayJob is kept: ``kubectl delete rayjob NAME`` forgets it, its log and what was
sent.
"""

from __future__ import annotations

import codecs
import re
import secrets
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from expflow.cluster import job_progress
from expflow.cluster import kuberay_manifests as manifests
from expflow.cluster.job_folder import JobOrder, results_folder
from expflow.cluster.kubectl import LOG_CONTAINER, Kubectl, ObjectMissing, ObjectThere
from expflow.cluster.launcher import JOB_PREFIX, ClusterJob, Launcher, Submission, SweepRequest, by_job
from expflow.cluster.remote_calls import BOOTSTRAP, agent_script, receive_results
from expflow.cluster.result_fetching import LEFT_THERE
from expflow.cluster.specs import KubeRayLauncherSpec
from expflow.cluster.submission import PreparedSweep, prepare, withheld
from expflow.cluster.version_lock import PROBE, parse_probe
from expflow.errors import AddressUnknown, ServerUnreachable, UserError

POLL_SECONDS = 2.0
"""How long to wait before a log that ended, or has not begun, is asked for again."""
AWAY_SECONDS = 600.0
"""How long a cluster that stopped answering is waited for while a log is followed."""
POD_SECONDS = 300
"""How long a pod may take to start that reads results or says which versions it has."""
POD_LIFE_SECONDS = 3600

_LONGEST_SLUG = 26
"""Characters of an experiment's name in that of its RayJob, which KubeRay takes with at most 47 characters: prefix,
digest and the number of a continued job are 21."""


class KubeRayLauncher(Launcher):
    """Jobs of the Kubernetes cluster that kubectl leads to.

    Args:
        spec: What its pods are made of.
        choice: The words of a command line that choose it.
        storage: Not needed here.
    """

    def __init__(self, spec: KubeRayLauncherSpec, choice: tuple[str, ...], storage: str = "") -> None:
        self._spec, self.choice = spec, choice
        self.place = f"Kubernetes ({spec.context})" if spec.context else "Kubernetes"
        self._kubectl = Kubectl(spec.context, spec.namespace)

    def submit(self, requests: Sequence[SweepRequest]) -> list[Submission]:
        """See :meth:`Launcher.submit`; each experiment is a RayJob of its own."""
        mount = PurePosixPath(self._spec.mount)
        for request in requests:
            if not PurePosixPath(request.storage).is_relative_to(mount):
                raise UserError(
                    f"storage {request.storage} lies outside of {mount}, where the pods see the claim"
                    f" {self._spec.claim}: give --storage {mount}, or `storage:` in the experiment"
                )
        with tempfile.TemporaryDirectory() as scratch:
            return [self._send(sweep) for sweep in prepare(requests, Path(scratch), self.choice)]

    def _send(self, sweep: PreparedSweep) -> Submission:
        request = sweep.request
        results = results_folder(request.storage, request.name)
        order = JobOrder(request.name, results, sweep.arguments, dict(sweep.variables), self._spec.workers + 1)
        parts = manifests.package_parts(sweep.package.path)
        command = shlex.join(sweep.arguments)
        job = self._unused_name(object_name(sweep.job_name(command)))
        kept_back = tuple(withheld(sweep.package))
        submission = Submission(job, self.place, False, sweep.package.files, kept_back)
        manifest = manifests.ray_job(self._spec, job, order, command, len(parts), metadata.version("ray"))
        try:
            owner = self._kubectl.create(manifest)
        except ObjectThere:  # the same call, whose reply was lost or which is under way
            owner, submission = self._kubectl.get("rayjob", job), replace(submission, already_running=True)
        # Its pods wait for these. Sent again they change nothing: the name is made from what they hold.
        self._kubectl.apply(manifests.sent_objects(job, order, parts, owner))
        return submission

    def _unused_name(self, wanted: str) -> str:
        """The name of a job that has not ended, or one that none has: one that ended gets a number."""
        there = {job.id: job for job in self.jobs()}
        number, name = 1, wanted
        while name in there and there[name].over:
            number += 1
            name = f"{wanted}-{number}"
        return name

    def jobs(self) -> list[ClusterJob]:
        """See :meth:`Launcher.jobs`; those that expflow submitted and that are still kept."""
        labels = ",".join(f"{key}={value}" for key, value in manifests.LABELS.items())
        listed = self._kubectl.get("rayjobs", f"--selector={labels}")["items"]
        listed.sort(key=lambda record: record["metadata"].get("creationTimestamp", ""), reverse=True)
        return [_job_of(record) for record in listed]

    def logs(self, job: str) -> str:
        """See :meth:`Launcher.logs`: what the pod printed that submits the command to the RayJob's cluster."""
        self._existing(job)
        return self._log(job).decode(errors="replace")

    def _log(self, job: str) -> bytes:
        try:
            text = self._kubectl.run("logs", f"job/{job}", f"--container={LOG_CONTAINER}", "--tail=-1")
        except ObjectMissing:  # the pod is made when the cluster is ready
            return b""
        except ServerUnreachable as error:
            if _not_begun(str(error)):
                return b""
            raise
        return text.encode()

    def follow(self, job: str, on_text: Callable[[str], None]) -> ClusterJob:
        """See :meth:`Launcher.follow`; a stream that ends is opened anew, and goes on where it was."""
        self._existing(job)
        seen, heard = 0, time.monotonic()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")

        def hand_out(content: bytes) -> None:
            nonlocal seen
            seen += len(content)
            if text := decoder.decode(content):
                on_text(text)

        while True:
            before = seen
            self._stream(job, seen, hand_out)
            try:
                state = self._existing(job)
                if state.over:
                    hand_out(self._log(job)[seen:])
                    return state
                heard = time.monotonic()
            except ServerUnreachable:
                if time.monotonic() - heard > AWAY_SECONDS:
                    raise
            if seen == before:
                time.sleep(POLL_SECONDS)

    def _stream(self, job: str, seen: int, on_bytes: Callable[[bytes], None]) -> None:
        """Hand out what a log says behind a place until kubectl ends."""
        command = self._kubectl.command("logs", f"job/{job}", f"--container={LOG_CONTAINER}", "--tail=-1", "--follow")
        with subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None  # noqa: S101
            try:
                while content := process.stdout.read1(2**16):  # type: ignore[attr-defined]
                    skipped = min(seen, len(content))
                    seen -= skipped
                    if content[skipped:]:
                        on_bytes(content[skipped:])
            finally:
                process.terminate()

    def stop(self, job: str) -> ClusterJob:
        """See :meth:`Launcher.stop`: one that runs saves first, one that waits is suspended for good."""
        before = self._existing(job)
        if before.status == "RUNNING":
            head = f"--address=http://127.0.0.1:{manifests.DASHBOARD_PORT}"
            self._in_head(job, "ray", "job", "stop", "--no-wait", head, job)
        elif not before.over:
            self._kubectl.run("patch", "rayjob", job, "--type=merge", '--patch={"spec": {"suspend": true}}')
        return before

    def _in_head(self, job: str, *words: str) -> str:
        """Run something in the head's pod of a running job, whose environment has the token."""
        pod = self._head_pod(job)
        if not pod:
            raise ServerUnreachable(f"the pod of the Ray head of {job} is not there (any more)")
        return self._kubectl.run("exec", pod, f"--container={manifests.HEAD_CONTAINER}", "--", *words)

    def _head_pod(self, job: str) -> str:
        cluster = self._kubectl.get("rayjob", job).get("status", {}).get("rayClusterName", "")
        listed = self._kubectl.get("pods", f"--selector=ray.io/cluster={cluster},ray.io/node-type=head")["items"]
        return f"pod/{listed[0]['metadata']['name']}" if cluster and listed else ""

    def fetch(self, job: str, results: str, target: Path) -> None:
        """See :meth:`Launcher.fetch`; through a pod that mounts the claim."""
        self._existing(job)
        with self._waiting_pod() as pod:
            command = self._kubectl.command("exec", "--stdin", pod, "--", "python", "-c", BOOTSTRAP)
            script = agent_script("send_folder", folder=results, left_out=list(LEFT_THERE))
            receive_results(command, script, target, f"{self.place} did not send all results of {job}")

    def check_fetch(self, storage: str) -> None:
        """See :meth:`Launcher.check_fetch`; a pod reads what lies in the claim."""

    def progress(self, jobs: Sequence[ClusterJob]) -> dict[str, str]:
        """See :meth:`Launcher.progress`; a pod reads the claim: the head's of a running job, else one for that."""
        folders = sorted({job.results for job in jobs if job.results and job.status != "PENDING"})
        words = ("python", "-m", job_progress.MODULE, *folders)
        running = next((job.id for job in jobs if job.status == "RUNNING"), None)
        if not folders:
            return {}
        try:
            if running is not None:
                shown = self._in_head(running, *words)
            else:
                with self._waiting_pod() as pod:
                    shown = self._kubectl.run("exec", pod, "--", *words)
        except (ServerUnreachable, ObjectMissing):  # the jobs are listed all the same
            return {}
        return by_job(jobs, job_progress.parse_progress(shown))

    def versions(self, packages: Sequence[str]) -> dict[str, dict[str, str]]:
        """See :meth:`Launcher.versions`; of the image, by a pod of it."""
        with self._waiting_pod() as pod:
            shown = self._kubectl.run("exec", pod, "--", "python", "-c", PROBE, *packages)
        return {self._spec.image: parse_probe(shown, self._spec.image)}

    @contextmanager
    def _waiting_pod(self) -> Iterator[str]:
        """A pod of the image that mounts the claim; it is deleted afterwards, and ends by itself where that fails."""
        name = f"{JOB_PREFIX}pod-{secrets.token_hex(4)}"
        try:
            self._kubectl.create(manifests.waiting_pod(self._spec, name, POD_LIFE_SECONDS))
            try:
                self._kubectl.run(
                    "wait",
                    f"pod/{name}",
                    "--for=condition=Ready",
                    f"--timeout={POD_SECONDS}s",
                    seconds=POD_SECONDS + 30,
                )
            except ServerUnreachable as error:
                raise ServerUnreachable(f"{error}; `kubectl describe pod {name}` says why") from error
            yield f"pod/{name}"
        finally:
            with suppress(ServerUnreachable, ObjectMissing):
                self._kubectl.run("delete", f"pod/{name}", "--wait=false", "--ignore-not-found")

    def _existing(self, job: str) -> ClusterJob:
        try:
            return _job_of(self._kubectl.get("rayjob", job))
        except ObjectMissing as error:
            there = [other.id for other in self.jobs()][:5]
            listed = f"the latest there: {', '.join(there)}" if there else "there are none"
            raise AddressUnknown(f"{self.place} has no job {job!r}; {listed}") from error


def object_name(job: str) -> str:
    """A job's name as Kubernetes and KubeRay take one. Its digest tells jobs apart, so what is left out may be equal.

    Args:
        job: The job's name, which ends in a digest.
    """
    readable, digest = job.removeprefix(JOB_PREFIX)[:-9], job[-8:]
    slug = re.sub(r"[^a-z0-9]+", "-", readable.lower())[:_LONGEST_SLUG].strip("-")
    return f"{JOB_PREFIX}{slug or 'experiment'}-{digest}"


def _not_begun(error: str) -> bool:
    """Whether kubectl has no log because the pod's container has not started yet."""
    return any(
        words in error for words in ("ContainerCreating", "PodInitializing", "waiting to start", "timed out waiting")
    )


def _job_of(record: Mapping[str, Any]) -> ClusterJob:
    """A job as its RayJob tells it."""
    named, state = record["metadata"], record.get("status", {})
    notes, times = named.get("annotations", {}), state.get("rayJobInfo", {})
    deployment, status = state.get("jobDeploymentStatus", ""), state.get("jobStatus", "")
    message = ": ".join(text for text in (state.get("reason", ""), state.get("message", "")) if text)
    if deployment in ("Suspending", "Suspended"):
        status = "STOPPED"
    elif deployment == "Failed" and status not in ("SUCCEEDED", "STOPPED"):
        status = "FAILED"
    elif status not in ("RUNNING", "SUCCEEDED", "FAILED", "STOPPED"):
        status = "PENDING"
    code = re.search(r"exit code (-?\d+)", message) if status == "FAILED" else None
    return ClusterJob(
        id=named["name"],
        status=status,
        entrypoint=notes.get(manifests.COMMAND_ANNOTATION, ""),
        message=message.splitlines()[0] if message else deployment,
        experiment=notes.get(manifests.EXPERIMENT_ANNOTATION, ""),
        results=notes.get(manifests.RESULTS_ANNOTATION, ""),
        started=_seconds(times.get("startTime")),
        ended=_seconds(times.get("endTime") or state.get("endTime")) if status not in ("PENDING", "RUNNING") else 0.0,
        driver_exit_code=int(code[1]) if code else None,
    )


def _seconds(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
