"""The keys of each launcher in the site file's ``clusters``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from expflow.cluster.launcher import LauncherSpec
from expflow.config.spec import execution


def _no_option(text: str) -> str:
    """A text that the tool it is given to would not take for one of its options."""
    if text.startswith("-") or not text.isprintable():
        raise ValueError("begins with '-', or holds a character that cannot be printed")
    return text


Word = Annotated[str, Field(min_length=1), AfterValidator(_no_option)]


class RayLauncherSpec(LauncherSpec):
    """A running Ray head, through Ray Jobs."""

    build: ClassVar[str] = "expflow.cluster.ray_launcher:RayLauncher"
    name: Literal["ray"] = execution("ray", description="Which launcher.")
    address: Word | None = execution(
        None, description="The head's dashboard; by default RAY_API_SERVER_ADDRESS, else the key `ray` above."
    )


class SlurmLauncherSpec(LauncherSpec):
    """A Slurm cluster: each job is an allocation in which a Ray cluster lives as long as the sweep."""

    build: ClassVar[str] = "expflow.cluster.slurm_launcher:SlurmLauncher"
    name: Literal["slurm"] = execution("slurm", description="Which launcher.")
    nodes: int = execution(1, ge=1, description="Nodes of an allocation.")
    cpus: int | None = execution(None, ge=1, description="CPUs of each node; by default what the partition gives.")
    gpus: int = execution(0, ge=0, description="GPUs of each node.")
    memory: Word | None = execution(None, description="Memory of each node, as Slurm writes it: `64G`.")
    time: Word | None = execution(
        None,
        description="Longest time of an allocation, as Slurm writes it: `08:00:00`; the sweep saves before.",
    )
    partition: Word | None = execution(None, description="Partition; by default Slurm's.")
    account: Word | None = execution(None, description="Account that is charged.")
    save_seconds: int = execution(
        120, ge=10, description="How long before the end of an allocation the sweep is asked to save and end."
    )
    options: tuple[str, ...] = execution((), description="Further options of sbatch, such as `--qos=long`.")
    setup: tuple[str, ...] = execution(
        (), description="Shell commands that prepare a node, such as `module load cuda`; they run before all else."
    )
    python: Word | None = execution(
        None, description="Python of the nodes with expflow's packages; by default the one that runs this command."
    )


class SshLauncherSpec(LauncherSpec):
    """Workstations that are reached by ssh; a Ray cluster lives on them as long as the sweep."""

    build: ClassVar[str] = "expflow.cluster.ssh_launcher:SshLauncher"
    name: Literal["ssh"] = execution("ssh", description="Which launcher.")
    hosts: tuple[Word, ...] = execution(
        min_length=1, description="Names of the machines, as ssh takes them; the sweep's driver runs on the first."
    )
    python: Word = execution("python3", description="Python of the machines with expflow's packages.")
    folder: Word = execution(
        ".cache/expflow/jobs", description="Folder on each machine for what is sent there, seen from the home folder."
    )
    options: tuple[str, ...] = execution((), description="Further options of ssh, such as `-p2222`.")


class KubeRayLauncherSpec(LauncherSpec):
    """A Kubernetes cluster with KubeRay's operator: each job is a RayJob, whose Ray cluster ends with the sweep."""

    build: ClassVar[str] = "expflow.cluster.kuberay_launcher:KubeRayLauncher"
    name: Literal["kuberay"] = execution("kuberay", description="Which launcher.")
    image: Word = execution(description="Image with expflow's packages, which every pod runs.")
    claim: Word = execution(
        description="Name of the PersistentVolumeClaim for results and prepared data; one that several nodes may mount,"
        " where there are workers."
    )
    mount: Word = execution("/storage", description="Where the pods see it; --storage lies in it.")
    context: Word | None = execution(None, description="Context of kubectl's settings; by default the current one.")
    namespace: Word | None = execution(None, description="Namespace; by default that of the context.")
    workers: int = execution(0, ge=0, description="Pods that train, beside the head's.")
    cpus: int = execution(1, ge=1, description="CPUs of each pod.")
    gpus: int = execution(0, ge=0, description="GPUs of each pod.")
    memory: Word = execution("8Gi", description="Memory of each pod, as Kubernetes writes it.")
    nodes: dict[str, str] = execution(
        default_factory=dict,
        description="Labels of the nodes that workers run on, such as those of spot machines; taints of the same keys"
        " are tolerated.",
    )
    secret: Word | None = execution(
        None, description="Name of a Secret whose keys become environment variables of the pods."
    )
    service_account: Word | None = execution(None, description="Service account of the pods.")
