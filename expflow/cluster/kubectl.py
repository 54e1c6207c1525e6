"""Kubernetes' own command, and what it answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from expflow.errors import PackageMissing, ServerUnreachable

PATIENCE_SECONDS = 120.0
"""How long one call may take, the sending of a package included."""
LOG_CONTAINER = "ray-job-submitter"
"""Container of the pod that submits a RayJob's command and prints its log, as KubeRay names it."""


class ObjectMissing(Exception):
    """The cluster has no object of that name."""


class ObjectThere(Exception):
    """The cluster has an object of that name already."""


class Kubectl:
    """Calls ``kubectl``, whose own settings say how the cluster is reached.

    Args:
        context: A context of its settings; None: the current one.
        namespace: The namespace; None: that of the context.
    """

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        named = {"context": context, "namespace": namespace}
        self._where = [f"--{option}={value}" for option, value in named.items() if value is not None]

    def command(self, *words: str) -> list[str]:
        """A whole command line.

        Args:
            *words: What follows the name of the cluster.
        """
        return ["kubectl", *self._where, *words]

    def run(self, *words: str, given: bytes = b"", seconds: float = PATIENCE_SECONDS) -> str:
        """Run one command; returns what it printed.

        Args:
            *words: Its words.
            given: Its standard input.
            seconds: How long it may take.

        Raises:
            ObjectMissing: There is no such object.
            ObjectThere: There is such an object already.
            PackageMissing: This machine has no kubectl.
            ServerUnreachable: The cluster refuses, or does not answer.
        """
        command = self.command(*words)
        try:
            done = subprocess.run(command, input=given, capture_output=True, timeout=seconds, check=False)  # noqa: S603
        except FileNotFoundError as error:
            raise PackageMissing(
                "kubectl is not installed here; the Kubernetes documentation says how, and `kubectl get nodes` whether"
                " it reaches the cluster"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ServerUnreachable(f"kubectl {words[0]} got no answer in {seconds:.0f} s") from error
        if done.returncode:
            raise failure(words[0], done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def get(self, *words: str) -> dict[str, Any]:
        """One object, or a list of objects. Raises as :meth:`run`.

        Args:
            *words: What follows ``kubectl get``.
        """
        return self._object(self.run("get", *words, "--output=json"))

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Make an object; returns it as the cluster has it. Raises as :meth:`run`.

        Args:
            manifest: The object.
        """
        return self._object(self.run("create", "--filename=-", "--output=json", given=json.dumps(manifest).encode()))

    def apply(self, manifests: Sequence[dict[str, Any]]) -> None:
        """Make objects, or bring those that are there up to date. Raises as :meth:`run`.

        Args:
            manifests: The objects.
        """
        # By the server: kubectl itself would keep a copy in an annotation, which holds at most 256 KiB.
        options = ["--server-side", "--force-conflicts", "--field-manager=expflow"]
        for manifest in manifests:
            self.run("apply", *options, "--filename=-", given=json.dumps(manifest).encode())

    def _object(self, text: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ServerUnreachable("kubectl answered something else than an object") from error
        if not isinstance(value, dict):
            raise ServerUnreachable("kubectl answered something else than an object")
        return value


def failure(verb: str, code: int, errors: str) -> Exception:
    """What a failed command means.

    Args:
        verb: Its first word.
        code: Its exit code.
        errors: What it printed to the standard error.
    """
    lines = errors.strip().splitlines() or [f"exit code {code}"]
    if "(NotFound)" in errors:
        return ObjectMissing(lines[-1])
    if "(AlreadyExists)" in errors:
        return ObjectThere(lines[-1])
    if "doesn't have a resource type" in errors or "no matches for kind" in errors:
        return ServerUnreachable(
            f"kubectl {verb} failed: {lines[-1]}; KubeRay's operator is installed by `helm install kuberay-operator"
            " kuberay/kuberay-operator`"
        )
    return ServerUnreachable(f"kubectl {verb} failed: {lines[-1]}")
