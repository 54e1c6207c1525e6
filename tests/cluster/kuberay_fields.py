"""The fields of KubeRay's custom resources that expflow's manifests use, with their types; anything else is refused.

Written from KubeRay's reference of ray.io/v1 (release 1.6) and from what its operator refuses: a RayJob's name has at
most 47 characters and is a label that begins with a letter, token authentication needs Ray 2.52 and `rayVersion`. Pods
in them are validated as Kubernetes' own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate

KUBERNETES = kubernetes_validate.latest_version()

_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_POD = {"type": "object", "required": ["spec"]}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def _metadata(longest: int) -> dict[str, Any]:
    name = {"type": "string", "maxLength": longest, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}
    return _object("name", name=name, labels=_STRINGS, annotations=_STRINGS)


_CLUSTER_SPEC = _object(
    "headGroupSpec",
    "rayVersion",
    "authOptions",
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_object("mode", mode={"enum": ["token"]}),
    headGroupSpec=_object(
        "rayStartParams",
        "template",
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        rayStartParams=_STRINGS,
        template=_POD,
    ),
    workerGroupSpecs={
        "type": "array",
        "items": _object(
            "groupName",
            "minReplicas",
            "maxReplicas",
            "rayStartParams",
            "template",
            groupName={"type": "string", "minLength": 1},
            replicas=_COUNT,
            minReplicas=_COUNT,
            maxReplicas=_COUNT,
            rayStartParams=_STRINGS,
            template=_POD,
        ),
    },
)
_KIND = {"apiVersion": {"const": "ray.io/v1"}}
SCHEMAS = {
    "RayCluster": _object(
        "metadata", "spec", **_KIND, kind={"const": "RayCluster"}, metadata=_metadata(53), spec=_CLUSTER_SPEC
    ),
    "RayJob": _object(
        "metadata",
        "spec",
        **_KIND,
        kind={"const": "RayJob"},
        metadata=_metadata(47),
        spec=_object(
            "entrypoint",
            "rayClusterSpec",
            entrypoint={"type": "string"},
            jobId={"type": "string"},
            submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
            shutdownAfterJobFinishes={"type": "boolean"},
            backoffLimit=_COUNT,
            runtimeEnvYAML={"type": "string"},
            rayClusterSpec=_CLUSTER_SPEC,
        ),
    ),
}


def validate(manifest: dict[str, Any]) -> None:
    """Refuse a manifest with a field that its kind does not have, or of another type."""
    if manifest["kind"] not in SCHEMAS:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    jsonschema.Draft202012Validator(SCHEMAS[manifest["kind"]]).validate(manifest)
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    assert tuple(map(int, spec["rayVersion"].split("."))) >= (2, 52, 0)
    for template in pod_templates(manifest):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        mounted = [mount["name"] for container in containers(template) for mount in container["volumeMounts"]]
        assert set(mounted) == {volume["name"] for volume in template["spec"]["volumes"]}
    if "entrypoint" in manifest["spec"]:  # KubeRay pastes both into a shell's text
        assert re.fullmatch(r"[\w /.-]+", manifest["spec"]["entrypoint"])
        assert re.fullmatch(r'[\w {}":]+', manifest["spec"]["runtimeEnvYAML"])


def pod_templates(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def containers(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from template["spec"]["containers"]
    yield from template["spec"].get("initContainers", ())
