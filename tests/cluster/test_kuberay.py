"""Sweeps as RayJobs, by the commands that a user types; kubectl and the operator are the tests' own, and run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from expflow.cluster import kuberay_manifests as manifests
from expflow.cluster.job_folder import JobOrder
from expflow.cluster.kuberay_launcher import object_name
from expflow.cluster.specs import KubeRayLauncherSpec
from expflow.errors import UserError
from expflow.events import TrialEnded
from expflow.ledger import exists, read
from tests.cluster import kuberay_fields

ROOT = Path(__file__).parents[2]
PLANTED = "s3cr3t-of-the-caller"
HOSTILE = "$(touch hacked) '\"; touch hacked; #{{x}}: [é"
NAME = urllib.parse.quote(HOSTILE)
"""As the name of its results."""


class Project:
    """A folder with experiments, a site file that names a cluster, and the cluster's objects."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cluster, self.storage = folder / "project", folder / "cluster", folder / "storage"
        programs = folder / "bin"
        for path in (self.folder, self.cluster, self.storage, programs):
            path.mkdir()
        (programs / "kubectl").write_text(
            f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.cluster.fake_kubectl {self.cluster} "$@"\n'
        )
        (programs / "kubectl").chmod(0o755)
        keys = f"image: 'lab/expflow:1', claim: results, mount: {self.storage}, namespace: lab"
        (self.folder / "expflow.site.yaml").write_text(
            f"cluster: kube\nstorage: {self.storage}/runs\n"
            f"clusters:\n  kube: {{name: kuberay, {keys}, workers: 1, gpus: 1, nodes: {{spot: 'y'}}, secret: keys}}\n"
        )
        self.environment = {"PATH": f"{programs}:{os.environ['PATH']}", "PLANTED_TOKEN": PLANTED}

    def expflow(self, *words: str) -> subprocess.CompletedProcess[str]:
        command, environment = [sys.executable, "-m", "expflow", *words], {**os.environ, **self.environment}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=170)

    def submit(self, file: str, *words: str) -> str:
        done = self.expflow("submit", file, *words)
        assert done.returncode == 0, done.stderr
        return re.findall(r"^job (\S+) at Kubernetes", done.stdout, re.MULTILINE)[0]

    def objects(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in (self.cluster / "objects").glob(f"{kind}.*.json")]

    def status(self, job: str) -> dict[str, Any]:
        path = self.cluster / "objects" / f"status.{job}.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def ended(self) -> list[str]:
        folder = self.storage / "runs" / NAME
        records = list(read(folder)) if exists(folder) else []
        return [record.body.trial for record in records if isinstance(record.body, TrialEnded)]

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.cluster / "calls").read_text().splitlines()]


def script(*seconds: float) -> str:
    lines = [f"      - [{{sleep: {s}}}, {{report: {{val/top1: 0.{n + 1}}}}}]" for n, s in enumerate(seconds)]
    return "task: {name: scripted}\nsweep:\n  space:\n    task.script:\n" + "\n".join(lines) + "\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    names = [job["metadata"]["name"] for job in project.objects("rayjob")]
    until(lambda: all(project.status(name).get("jobStatus") != "RUNNING" for name in names))


def until(true: Any, patience: float = 120.0) -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_from_its_submission_to_its_results(project: Project) -> None:
    (project.folder / f"{HOSTILE}.yaml").write_text(script(1, 15, 15))
    job = project.submit(f"{HOSTILE}.yaml")
    (project.cluster / "cut").touch()  # every stream of the log ends early
    until(project.ended)
    row = project.expflow("status", "--on", "kube").stdout.splitlines()[1]
    assert re.fullmatch(rf"{job}  RUNNING  .* {re.escape(NAME)} +.*[12] done; best val/top1 [123]0.00 % *", row), row
    assert project.submit(f"{HOSTILE}.yaml") == job
    assert len(project.objects("rayjob")) == 1
    assert "asked to save and end" in project.expflow("stop", job).stdout
    stopped = project.expflow("logs", job, "--follow")
    assert stopped.returncode == 143, stopped.stdout + stopped.stderr
    assert stopped.stdout == project.expflow("logs", job).stdout == (project.cluster / f"{job}.log").read_text()
    assert "to continue: expflow submit" in stopped.stdout
    assert len(project.ended()) < 3

    fetched = project.expflow("submit", f"{HOSTILE}.yaml", "--fetch", "home")
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    assert len(project.ended()) == len(set(project.ended())) == 3
    home = project.folder / "home" / NAME
    assert (home / "report.html").read_bytes() == (project.storage / "runs" / NAME / "report.html").read_bytes()
    listed = project.expflow("status", "--on", "kube", "--json")
    rows = json.loads(listed.stdout)["jobs"]
    assert [(row["job"], row["status"], row["exit_code"]) for row in rows] == [
        (f"{job}-2", "SUCCEEDED", 0),
        (job, "STOPPED", 143),
    ]
    assert {row["progress"] for row in rows} == {"3 done; best val/top1 30.00 %"}
    check_what_was_sent(project)


def check_what_was_sent(project: Project) -> None:
    """Every object is one that Kubernetes and KubeRay take, and holds no secret; a name was nowhere a command."""
    sent = [*project.objects("rayjob"), *project.objects("configmap")]
    assert {one["kind"] for one in sent} == {"RayJob", "ConfigMap"}
    for one in sent:
        for key in ("uid", "creationTimestamp"):  # the server's
            del one["metadata"][key]
        kuberay_fields.validate(one)
    assert not project.objects("pod"), "every pod that reads results is deleted again"
    assert not list(project.folder.parent.glob("**/hacked"))
    for path in project.folder.parent.rglob("*"):
        assert not path.is_file() or PLANTED.encode() not in path.read_bytes(), path
    assert all(words[0].startswith("--namespace=lab") for words in project.calls())


def test_a_job_that_waits_is_stopped_and_submitted_anew(project: Project) -> None:
    (project.cluster / "full").touch()  # no node is free
    (project.folder / "x.yaml").write_text(script(1))
    job = project.submit("x.yaml")
    assert re.search(rf"{job} +PENDING", project.expflow("status", "--on", "kube").stdout)
    assert project.expflow("logs", job).stdout == ""
    assert "asked to save and end" in project.expflow("stop", job).stdout
    assert "was over already: STOPPED" in project.expflow("stop", job).stdout
    assert project.submit("x.yaml") == f"{job}-2"


def test_what_is_wrong_is_said_in_one_line(project: Project) -> None:
    (project.folder / "x.yaml").write_text(script(1))
    unknown = project.expflow("logs", "expflow-none-00000000")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "error: Kubernetes has no job 'expflow-none-00000000'; there are none\n"
    outside = project.expflow("submit", "x.yaml", "--storage", "/elsewhere")
    assert outside.returncode == 2
    assert f"lies outside of {project.storage}, where the pods see the claim results" in outside.stderr
    (project.cluster / "away").touch()
    away = project.expflow("submit", "x.yaml")
    assert (away.returncode, len(away.stderr.splitlines())) == (3, 1)
    assert away.stderr.startswith("error: kubectl get failed: The connection to the server 127.0.0.1:6443 was refused")
    project.environment["PATH"] = "/usr/bin/nowhere"
    assert "kubectl is not installed here" in project.expflow("logs", "expflow-none-00000000").stderr


def test_the_image_says_which_versions_it_has(project: Project) -> None:
    (project.folder / "constraints.txt").write_text("ray==1.0\n")
    checked = project.expflow("doctor", "--on", "kube")
    assert checked.stderr == ""
    assert re.findall(r"^warn (\S+) on (\S+): ", checked.stdout, re.MULTILINE) == [("ray", "lab/expflow:1")]
    assert not project.objects("pod")


def test_every_manifest_is_one_that_its_kind_takes() -> None:
    spec = KubeRayLauncherSpec(
        image="lab/expflow:1",
        claim="results",
        workers=3,
        gpus=2,
        secret="keys",
        service_account="sa",
        nodes={"spot": "y"},
    )
    order = JobOrder("x", "/storage/x", ("-m", "expflow", "sweep", "$(x).yaml"), {"A": "'"}, 4)
    job = manifests.ray_job(spec, "expflow-x-0badcafe", order, "$(x)", 2, "2.60.0")
    owner = {"metadata": {"name": "expflow-x-0badcafe", "uid": "u"}}
    for one in (
        job,
        manifests.ray_cluster(spec, "expflow", "2.60.0"),
        manifests.waiting_pod(spec, "expflow-pod-1", 60),
        *manifests.sent_objects("expflow-x-0badcafe", order, [b"\0", b"\1"], owner),
    ):
        kuberay_fields.validate(one)
    worker = kuberay_fields.pod_templates(job)[1]["spec"]
    assert worker["nodeSelector"] == {"spot": "y"}
    assert worker["tolerations"] == [{"key": "spot", "operator": "Exists"}]
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("change", [{"shutdownAfterJobFinish": True}, {"backoffLimit": "0"}, {"entrypoint": "x; y"}])
def test_a_field_that_kuberay_does_not_have_is_noticed(change: dict[str, Any]) -> None:
    spec = KubeRayLauncherSpec(image="i", claim="c")
    job = manifests.ray_job(spec, "x", JobOrder("x", "/storage/x", (), {}), "", 1, "2.60.0")
    kuberay_fields.validate(job)
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        kuberay_fields.validate({**job, "spec": {**job["spec"], **change}})


def test_a_large_project_is_sent_in_parts_and_a_larger_one_refused(tmp_path: Path) -> None:
    package = tmp_path / "project.zip"
    package.write_bytes(os.urandom(2_000_000))
    parts = manifests.package_parts(package)
    assert b"".join(parts) == package.read_bytes()
    assert max(map(len, parts)) <= 900_000
    package.write_bytes(bytes(20_000_000))
    with pytest.raises(UserError, match=r"takes 20\.0 MB when it is packed; at most 14\.4 MB are sent"):
        manifests.package_parts(package)


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ("expflow-ResNet_depth.v2-0badcafe", "expflow-resnet-depth-v2-0badcafe"),
        ("expflow----0badcafe", "expflow-experiment-0badcafe"),
        (f"expflow-{'x' * 60}-0badcafe", f"expflow-{'x' * 26}-0badcafe"),
    ],
)
def test_names_that_kuberay_takes(job: str, name: str) -> None:
    assert object_name(job) == name
    assert len(f"{name}-999") <= 47
