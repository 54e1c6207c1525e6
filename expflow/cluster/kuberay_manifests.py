"""Manifests for Kubernetes, as data: RayJob, RayCluster, what a job is sent, and a pod that reads its results.

No value is pasted into text. Names and arguments of the user's stand in annotations and in a file that the pod reads;
the command that KubeRay's shell sees is the same for every job.

Source: the reference of KubeRay's custom resources (ray.io/v1), RayJobSpec and RayClusterSpec.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from expflow.cluster import pod_start
from expflow.cluster.job_folder import JobOrder
from expflow.cluster.specs import KubeRayLauncherSpec
from expflow.errors import UserError
from expflow.sweep.ray_address import NODES_VARIABLE, WITHOUT_METRICS

Manifest = dict[str, Any]

LABELS = {"app.kubernetes.io/managed-by": "expflow"}
EXPERIMENT_ANNOTATION = "expflow/experiment"
RESULTS_ANNOTATION = "expflow/results"
COMMAND_ANNOTATION = "expflow/command"
HEAD_CONTAINER = "ray-head"
JOB_API_VERSION = "ray.io/v1"
GCS_PORT = 6379
DASHBOARD_PORT = 8265
STOP_SECONDS = 60
"""How long a stopped sweep may take to save, before Ray kills it."""
PART_BYTES = 900_000
"""Bytes of the package in one ConfigMap, of which Kubernetes takes at most 1 MiB."""
MOST_PARTS = 16
_USER = 1000
_JOB_VOLUME, _PROJECT_VOLUME, _STORAGE_VOLUME = "job", "project", "storage"


def ray_job(
    spec: KubeRayLauncherSpec, name: str, order: JobOrder, command: str, parts: int, ray_version: str
) -> Manifest:
    """A sweep with a Ray cluster of its own, which ends with it.

    Args:
        spec: What its pods are made of.
        name: Its name.
        order: What it runs.
        command: The same in words, for those who look at it.
        parts: How many parts its package has.
        ray_version: Ray's version in the image.
    """
    annotations = {
        EXPERIMENT_ANNOTATION: order.experiment,
        RESULTS_ANNOTATION: order.results,
        COMMAND_ANNOTATION: command,
    }
    return {
        "apiVersion": JOB_API_VERSION,
        "kind": "RayJob",
        "metadata": {"name": name, "labels": LABELS, "annotations": annotations},
        "spec": {
            "entrypoint": f"exec python {pod_start.JOB}/start.py run",
            "jobId": name,
            "submissionMode": "K8sJobMode",
            "shutdownAfterJobFinishes": True,
            "backoffLimit": 0,
            "runtimeEnvYAML": json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}),
            "rayClusterSpec": _ray_cluster_spec(spec, ray_version, _sent_volumes(name, parts)),
        },
    }


def ray_cluster(spec: KubeRayLauncherSpec, name: str, ray_version: str) -> Manifest:
    """A Ray cluster that stays, for the launcher ``ray``.

    Args:
        spec: What its pods are made of.
        name: Its name.
        ray_version: Ray's version in the image.
    """
    return {
        "apiVersion": JOB_API_VERSION,
        "kind": "RayCluster",
        "metadata": {"name": name, "labels": LABELS},
        "spec": _ray_cluster_spec(spec, ray_version, []),
    }


def _ray_cluster_spec(spec: KubeRayLauncherSpec, ray_version: str, sent: list[Manifest]) -> Manifest:
    groups = []
    if spec.workers:
        groups.append(
            {
                "groupName": "workers",
                "replicas": spec.workers,
                "minReplicas": spec.workers,
                "maxReplicas": spec.workers,
                "rayStartParams": {},
                "template": _pod_template(spec, "ray-worker", sent),
            }
        )
    return {
        "rayVersion": ray_version,
        # The operator draws a token, keeps it in a Secret, and gives it to the pods of this cluster alone.
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": {},
            "template": _pod_template(spec, HEAD_CONTAINER, sent),
        },
        "workerGroupSpecs": groups,
    }


def _pod_template(spec: KubeRayLauncherSpec, container: str, sent: list[Manifest]) -> Manifest:
    head = container == HEAD_CONTAINER
    mounts: list[Manifest] = [{"name": _STORAGE_VOLUME, "mountPath": spec.mount}]
    if sent:
        mounts += [
            {"name": _JOB_VOLUME, "mountPath": str(pod_start.JOB), "readOnly": True},
            {"name": _PROJECT_VOLUME, "mountPath": str(pod_start.PROJECT)},
        ]
    ray = {
        **_container(spec, container, mounts),
        "env": [
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            *({"name": name, "value": value} for name, value in WITHOUT_METRICS.items()),
            {"name": NODES_VARIABLE, "value": str(spec.workers + 1)},
        ],
        "resources": _resources(spec),
    }
    if spec.secret:
        ray["envFrom"] = [{"secretRef": {"name": spec.secret}}]
    if head:
        ports = {"gcs-server": GCS_PORT, "dashboard": DASHBOARD_PORT}
        ray["ports"] = [{"name": name, "containerPort": port} for name, port in ports.items()]
    pod: Manifest = {**_pod_spec(spec), "containers": [ray], "volumes": [*_volumes(spec), *sent]}
    if sent:
        unpack = _container(spec, "unpack", mounts[1:])
        pod["initContainers"] = [{**unpack, "command": ["python", f"{pod_start.JOB}/start.py", "unpack"]}]
    if not head and spec.nodes:
        pod["nodeSelector"] = dict(spec.nodes)
        pod["tolerations"] = [{"key": key, "operator": "Exists"} for key in spec.nodes]
    return {"metadata": {"labels": LABELS}, "spec": pod}


def _container(spec: KubeRayLauncherSpec, name: str, mounts: list[Manifest]) -> Manifest:
    return {
        "name": name,
        "image": spec.image,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }


def _pod_spec(spec: KubeRayLauncherSpec) -> Manifest:
    pod: Manifest = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    }
    if spec.service_account:
        pod["serviceAccountName"] = spec.service_account
    return pod


def _resources(spec: KubeRayLauncherSpec) -> Manifest:
    amounts = {"cpu": str(spec.cpus), "memory": spec.memory}
    if spec.gpus:
        amounts["nvidia.com/gpu"] = str(spec.gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _volumes(spec: KubeRayLauncherSpec) -> list[Manifest]:
    return [{"name": _STORAGE_VOLUME, "persistentVolumeClaim": {"claimName": spec.claim}}]


def _sent_volumes(name: str, parts: int) -> list[Manifest]:
    """What was sent, as one folder: the order, the script that reads it, and the parts of the package."""
    files = [("order.json", "order.json"), ("start.py", "start.py")]
    sources = [_source(f"{name}-order", files)]
    sources += [_source(_part_name(name, n), [("part", f"package/part-{n:03}")]) for n in range(parts)]
    return [
        {"name": _JOB_VOLUME, "projected": {"sources": sources}},
        {"name": _PROJECT_VOLUME, "emptyDir": {}},
    ]


def _source(name: str, items: list[tuple[str, str]]) -> Manifest:
    return {"configMap": {"name": name, "items": [{"key": key, "path": path} for key, path in items]}}


def _part_name(name: str, number: int) -> str:
    return f"{name}-package-{number}"


def package_parts(package: Path) -> list[bytes]:
    """The parts in which a package is sent.

    Args:
        package: The packed project.

    Raises:
        UserError: It is too large for ConfigMaps.
    """
    content = package.read_bytes()
    parts = [content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES)]
    if len(parts) > MOST_PARTS:
        raise UserError(
            f"the project takes {len(content) / 1e6:.1f} MB when it is packed; at most"
            f" {PART_BYTES * MOST_PARTS / 1e6:.1f} MB are sent to Kubernetes. List what the experiment does not need in"
            " .gitignore or .rayignore, and put large files into the image or the claim"
        )
    return parts


def sent_objects(
    name: str, order: JobOrder, parts: list[bytes], owner: Mapping[str, Any] | None = None
) -> list[Manifest]:
    """ConfigMaps that hold what a job is sent; they are deleted with it.

    Args:
        name: The job's name.
        order: What it runs.
        parts: The parts of its package.
        owner: The RayJob as the cluster has it; None: nobody owns them.
    """
    texts = {"order.json": json.dumps(asdict(order)), "start.py": Path(pod_start.__file__).read_text(encoding="utf-8")}
    objects = [{**_config_map(f"{name}-order", owner), "data": texts}]
    for number, part in enumerate(parts):
        coded = {"part": base64.b64encode(part).decode("ascii")}
        objects.append({**_config_map(_part_name(name, number), owner), "binaryData": coded})
    return objects


def _config_map(name: str, owner: Mapping[str, Any] | None) -> Manifest:
    metadata: Manifest = {"name": name, "labels": LABELS}
    if owner is not None:
        named = owner["metadata"]
        metadata["ownerReferences"] = [
            {"apiVersion": JOB_API_VERSION, "kind": "RayJob", "name": named["name"], "uid": named["uid"]}
        ]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def waiting_pod(spec: KubeRayLauncherSpec, name: str, seconds: int) -> Manifest:
    """A pod of a job's image that sees its storage and does nothing, so that something can be run in it.

    Args:
        spec: What it is made of.
        name: Its name.
        seconds: When it ends by itself.
    """
    container = _container(spec, "wait", [{"name": _STORAGE_VOLUME, "mountPath": spec.mount}])
    sleep = ["python", "-c", "import sys, time; time.sleep(float(sys.argv[1]))", str(seconds)]
    small = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {
            **_pod_spec(spec),
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            "terminationGracePeriodSeconds": 1,
            "containers": [{**container, "command": sleep, "resources": small}],
            "volumes": _volumes(spec),
        },
    }
