"""What stands in for ``kubectl`` and KubeRay's operator: objects in a folder, and a RayJob that is really run.

It takes the words that the launcher uses, refuses all others, answers as kubectl does, and keeps a list of its calls.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import runpy
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

KINDS = {"rayjobs": "rayjob", "pods": "pod"}
STARTED = "2026-01-02T03:04:05Z"


class Cluster:
    """The objects of one cluster.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "objects").mkdir(parents=True, exist_ok=True)

    def path(self, kind: str, name: str) -> Path:
        return self.folder / "objects" / f"{kind}.{name}.json"

    def read(self, kind: str, name: str) -> dict[str, Any]:
        try:
            stored: dict[str, Any] = json.loads(self.path(kind, name).read_text())
        except FileNotFoundError:
            sys.exit(f'Error from server (NotFound): {kind}s "{name}" not found')
        status = self.folder / "objects" / f"status.{name}.json"
        return {**stored, **({"status": json.loads(status.read_text())} if status.exists() else {})}

    def write(self, path: Path, value: Any) -> None:
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(value))
        fresh.rename(path)

    def set_status(self, name: str, **status: Any) -> None:
        path = self.folder / "objects" / f"status.{name}.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        self.write(path, {**before, **status})

    def listed(self, kind: str, selector: str) -> list[dict[str, Any]]:
        names = [path.name.split(".")[1] for path in (self.folder / "objects").glob(f"{kind}.*.json")]
        wanted = dict(word.split("=") for word in selector.split(",")) if selector else {}
        objects = [self.read(kind, name) for name in sorted(names)]
        return [one for one in objects if wanted.items() <= one["metadata"].get("labels", {}).items()]

    def create(self, manifest: dict[str, Any], *, replaced: bool) -> dict[str, Any]:
        kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
        if self.path(kind, name).exists() and not replaced:
            sys.exit(f'Error from server (AlreadyExists): error when creating "STDIN": {kind}s "{name}" already exists')
        manifest["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": str(time.time_ns())}
        self.write(self.path(kind, name), manifest)
        return manifest


def sources(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The ConfigMaps that a RayJob's head mounts."""
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    projected = next(volume["projected"] for volume in pod["volumes"] if "projected" in volume)
    return [source["configMap"] for source in projected["sources"]]


def operate(cluster: Cluster, name: str) -> None:
    """Do what KubeRay, the kubelet and Ray do with a RayJob: mount, unpack, run, and write down how it ended."""
    job, pod = cluster.read("rayjob", name), cluster.folder / f"pod-{name}"
    mounted, project = pod / "job", pod / "project"
    for source in sources(job):
        content = cluster.read("configmap", source["name"])
        for item in source["items"]:
            path = mounted / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            binary = base64.b64decode(content.get("binaryData", {}).get(item["key"], ""))
            path.write_bytes(content.get("data", {}).get(item["key"], "").encode() or binary)
    project.mkdir()
    runpy.run_path(str(mounted / "start.py"))["unpack"](mounted, project)
    head = {"kind": "Pod", "metadata": {"name": f"{name}-head"}}
    head["metadata"]["labels"] = {"ray.io/cluster": f"{name}-abcde", "ray.io/node-type": "head"}
    cluster.create(head, replaced=True)
    cluster.set_status(
        name,
        jobStatus="RUNNING",
        jobDeploymentStatus="Running",
        rayClusterName=f"{name}-abcde",
        rayJobInfo={"startTime": STARTED},
    )
    container = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    variables = {row["name"]: row["value"] for row in container["env"]} | {"EXPFLOW_NODES": "1"}  # no other pod is run
    with (cluster.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(mounted), str(project)],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        (cluster.folder / f"{name}.pid").write_text(str(process.pid))
        code = process.wait()
    stopped = (cluster.folder / f"{name}.stopped").exists()
    words = "STOPPED" if stopped else "FAILED" if code else "SUCCEEDED"
    message = (
        f"Job entrypoint command failed with exit code {code}, last available logs (truncated):\nmore" if code else ""
    )
    cluster.path("pod", f"{name}-head").unlink()
    cluster.set_status(
        name,
        jobStatus=words,
        jobDeploymentStatus="Failed" if words == "FAILED" else "Complete",
        message=message,
        rayJobInfo={"startTime": STARTED, "endTime": "2026-01-02T03:05:05Z"},
        **({"reason": "AppFailed"} if words == "FAILED" else {}),
    )


RUN = """
import pathlib, runpy, sys
mounted, project = map(pathlib.Path, sys.argv[1:])
runpy.run_path(str(mounted / "start.py"))["run"](mounted, project)
"""


def show_log(cluster: Cluster, name: str, *, follow: bool) -> None:
    log, place = cluster.folder / f"{name}.log", 0
    if not log.exists():
        sys.exit(f'Error from server (NotFound): jobs.batch "{name}" not found')
    while True:
        over = cluster.read("rayjob", name)["status"]["jobStatus"] != "RUNNING"
        content = log.read_bytes()[place:]
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        place += len(content)
        if over or not follow or ((cluster.folder / "cut").exists() and place):
            return
        time.sleep(0.1)


def run_in_pod(cluster: Cluster, pod: str, words: list[str]) -> int:
    cluster.read("pod", pod.removeprefix("pod/"))
    if words[:3] == ["ray", "job", "stop"]:
        (cluster.folder / f"{words[-1]}.stopped").touch()
        os.kill(int((cluster.folder / f"{words[-1]}.pid").read_text()), 15)
        return 0
    words = [sys.executable if word == "python" else word for word in words]
    return subprocess.run(words, check=False).returncode


def main(folder: Path, words: list[str]) -> int:
    cluster = Cluster(folder)
    if words[0] == "operate":
        operate(cluster, words[1])
        return 0
    with (folder / "calls").open("a") as file:
        file.write(json.dumps(words) + "\n")
    if (folder / "away").exists():
        sys.exit("The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?")
    inner = words[words.index("--") + 1 :] if "--" in words else []
    given = parser().parse_args(words[: words.index("--")] if inner else words)
    assert given.namespace == "lab", words
    match given.verb:
        case "get" if given.name:
            print(json.dumps(cluster.read(given.kind, given.name)))
        case "get":
            print(json.dumps({"kind": "List", "items": cluster.listed(KINDS[given.kind], given.selector)}))
        case "create":
            print(json.dumps(cluster.create(json.load(sys.stdin), replaced=False)))
        case "apply":
            manifest = json.load(sys.stdin)
            cluster.create(manifest, replaced=True)
            print(f"configmap/{manifest['metadata']['name']} serverside-applied")
            begin(cluster, manifest)
        case "logs":
            show_log(cluster, given.name.removeprefix("job/"), follow=given.follow)
        case "exec":
            return run_in_pod(cluster, given.name, inner)
        case "wait":
            cluster.read("pod", given.name.removeprefix("pod/"))
        case "delete":
            cluster.path("pod", given.name.removeprefix("pod/")).unlink()
        case "patch":
            cluster.read("rayjob", given.name)
            assert json.loads(given.patch) == {"spec": {"suspend": True}}
            cluster.set_status(given.name, jobDeploymentStatus="Suspended")
    return 0


def begin(cluster: Cluster, manifest: dict[str, Any]) -> None:
    """Start the owner of a ConfigMap when all that its pods mount is there."""
    (owner,) = manifest["metadata"]["ownerReferences"]
    job = cluster.read("rayjob", owner["name"])
    assert owner["uid"] == job["metadata"]["uid"]
    there = all(cluster.path("configmap", source["name"]).exists() for source in sources(job))
    if there and "status" not in job and not (cluster.folder / "full").exists():
        cluster.set_status(owner["name"], jobDeploymentStatus="Initializing", jobStatus="")
        command = [sys.executable, "-m", "tests.cluster.fake_kubectl", str(cluster.folder), "operate", owner["name"]]
        subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(cluster.folder / "operator.log").open("ab"),
            start_new_session=True,
        )


def parser() -> argparse.ArgumentParser:
    all_words = argparse.ArgumentParser(allow_abbrev=False)
    all_words.add_argument("--context")
    all_words.add_argument("--namespace")
    verbs = all_words.add_subparsers(dest="verb", required=True)

    def verb(name: str, *options: str, **choices: list[str]) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, allow_abbrev=False)
        for option in options:
            one.add_argument(option, **({"nargs": "?"} if option == "name?" else {}))
        for option, values in choices.items():
            one.add_argument(f"--{option.replace('_', '-')}", choices=values, required=True)
        return one

    one = verb("get", "kind", output=["json"])
    one.add_argument("name", nargs="?")
    one.add_argument("--selector", default="")
    verb("create", filename=["-"], output=["json"])
    one = verb("apply", filename=["-"], field_manager=["expflow"])
    one.add_argument("--server-side", action="store_true", required=True)
    one.add_argument("--force-conflicts", action="store_true", required=True)
    verb("logs", "name", container=["ray-job-submitter"], tail=["-1"]).add_argument("--follow", action="store_true")
    one = verb("exec", "name")
    one.add_argument("--stdin", action="store_true")
    one.add_argument("--container", choices=["ray-head"])
    verb("wait", "name", "--for", "--timeout")
    verb("delete", "name", wait=["false"]).add_argument("--ignore-not-found", action="store_true", required=True)
    verb("patch", "kind", "name", "--patch", type=["merge"])
    return all_words


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
