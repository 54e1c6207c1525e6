"""The Ray cluster that a sweep runs on: this machine's own, started for the sweep, or one that is there."""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from expflow.config.resources import Resources
from expflow.errors import Interrupted, ServerUnreachable, UserError
from expflow.sweep.assignment import GangShape
from expflow.sweep.liveness import AttemptLimits
from expflow.sweep.process_limits import check_process_limits
from expflow.sweep.ray_address import cluster_address, environment_with, expected_nodes, on_loopback
from expflow.sweep.ray_helpers import HOST, SOCKET_LOOKS, helpers_behind, no_dashboard, no_waits
from expflow.sweep.ray_shutdown import shut_down_meanwhile, wait_for_shutdown
from expflow.sweep.ray_supervision import RayProbe
from expflow.sweep.trial_ranks import most_ranks
from expflow.training.allocator import TUNABLES
from expflow.training.contract import trials_per_gpu

logger = logging.getLogger(__name__)

_QUIET = {
    # Ray Tune's own state is a cache that nobody reads: the ledger is the truth.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_THRESHOLD_S": "30",
    # Tune would start a searcher's trials one by one; how many there are at once is the session's to decide.
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Nothing may leave the machine unasked.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_MODE = "RAY_AUTH_MODE"
"""What ray.init may set."""

_JOIN_SECONDS = 300.0
"""How long the nodes of a cluster job may take to join."""

_TOKEN = secrets.token_hex(32)
"""A token of this process's own for the Ray it starts, never written to disk. Ray 2.60 turns authentication on for a
new local cluster and reads the token once, so it stays the same until the process ends."""


@dataclass(frozen=True)
class RayCluster:
    """A connected cluster, and how a sweep uses it.

    Attributes:
        shape: What a gang is made of.
        gangs: How many gangs there is room for.
        trainable_resources: What one of Tune's trainables reserves, by Ray's names: it holds it to the head node.
        beside_driver: Holds an actor to the driver's own node.
        attempt_limits: How long an attempt may take.
        probe: Whether the cluster is still there.
        may_grow: Whether nodes may join: not where the sweep has started Ray for itself.
    """

    shape: GangShape
    gangs: int
    trainable_resources: dict[str, float]
    beside_driver: NodeAffinitySchedulingStrategy
    attempt_limits: AttemptLimits
    probe: RayProbe
    may_grow: bool


@contextmanager
def connected(
    resources: Resources, site: str | None, namespace: str, *, paths: tuple[str, ...], warm: tuple[str, ...]
) -> Iterator[RayCluster]:
    """Connect to the Ray cluster that :func:`cluster_address` names, or start Ray on this machine alone.

    A process that is connected already, such as a notebook's, stays so: its cluster is used and left as it was.
    Otherwise the connection is still being closed when the body has ended; see :mod:`expflow.sweep.ray_shutdown`.

    Args:
        resources: What a trial takes.
        site: The site file's address; None where it has none.
        namespace: Ray's namespace for the sweep's actors.
        paths: Folders that are put before the ranks' import path.
        warm: Modules that ranks import before their first trial.

    Raises:
        ServerUnreachable: No head answers, or Ray does not start here.
        LimitTooLow: This user may have too few open files or processes.
        Interrupted: A signal came while Ray started.
        UserError: No gang fits, or this process is connected through Ray's client.
    """
    wait_for_shutdown()
    if ray.is_initialized():
        _refuse_client()
        with environment_with(_QUIET, _MODE), _quiet_logs():
            probe = RayProbe.of_connected(own=False)
            yield _usable_cluster(resources, True, tuple(map(_portable, paths)), warm, probe)
        return
    address = cluster_address(site)
    extra = _QUIET | ({} if address else _own_environment(resources))
    with environment_with(extra, _MODE), _quiet_logs():
        _start(address, namespace)
        probe = RayProbe.of_connected(own=not address)
        try:
            _wait_for_nodes(expected_nodes())
            yield _usable_cluster(resources, bool(address), tuple(map(_portable, paths)), warm, probe)
        finally:
            if not probe.given_up:
                shut_down_meanwhile(ray.shutdown)


def _own_environment(resources: Resources) -> dict[str, str]:
    """The environment of a Ray of this process's own, which the system must let this user have."""
    fit = (os.cpu_count() or 1) // (resources.ranks * resources.cpus_per_rank)
    check_process_limits(resources.ranks * min(fit, resources.max_concurrent or fit))
    # Ray's processes hand their environment on to the ranks.
    inherited = {
        key: value
        for key, value in (("RAY_AUTH_TOKEN", _TOKEN), TUNABLES, *SOCKET_LOOKS.items())
        if not os.environ.get(key)
    }
    # Workers that Ray would start before anything is known of them: forked ranks take the place of none.
    return {"RAY_prestart_worker_first_driver": "0"} | inherited | on_loopback()


def _refuse_client() -> None:
    """Ray's client runs Tune in another process, which could not write the ledger."""
    if ray.util.client.ray.is_connected():
        raise UserError(
            "this process is connected to Ray through its client (ray://…), which cannot run a sweep: call "
            "ray.shutdown() first; `expflow submit FILE` runs the sweep on that cluster"
        )


@contextmanager
def _quiet_logs() -> Iterator[None]:
    # A trainable that is lost costs nothing here, and Tune would show its traceback.
    quiet = {logging.getLogger("ray"): logging.ERROR, logging.getLogger("ray.tune"): logging.CRITICAL}
    before = {logger: logger.level for logger in quiet}
    for logger, level in quiet.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


def _start(address: str | None, namespace: str) -> None:
    try:
        if address:
            ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
        else:
            slots = {"expflow": float(os.cpu_count() or 1)}
            with no_dashboard() as port, no_waits(), helpers_behind():
                ray.init(
                    address="local",
                    namespace=namespace,
                    resources=slots,
                    include_dashboard=False,
                    dashboard_host=HOST,
                    dashboard_port=port,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            _warn_of_listeners()
    except SystemExit as error:  # what Ray's handler of SIGTERM does, until it is replaced by ours
        raise Interrupted("stopped by SIGTERM while Ray started", signal_number=signal.SIGTERM) from error
    except Exception as error:  # Ray raises a bare one when a machine is too busy to start it in half a minute
        where = f"the Ray head at {address}" if address else "Ray on this machine"
        raise ServerUnreachable(f"{where} did not start or answer: {error}") from error


def _wait_for_nodes(count: int) -> None:
    """Return when the cluster has its nodes: the slots are counted once."""
    patience = time.monotonic() + _JOIN_SECONDS
    while (alive := sum(node["Alive"] for node in ray.nodes())) < count:
        if time.monotonic() > patience:
            raise ServerUnreachable(f"{alive} of {count} nodes joined the cluster in {_JOIN_SECONDS:.0f} s")
        time.sleep(0.2)


def _warn_of_listeners() -> None:
    """Say so where Ray listens beyond this machine: it was imported before anything here could tell it not to."""
    address = ray.util.get_node_ip_address()
    if not ipaddress.ip_address(address).is_loopback:
        logger.warning(
            "Ray listens on %s, which other machines may reach: it was imported before the sweep began. Set "
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before `import ray` to keep it on this machine",
            address,
        )


def _portable(path: str) -> str:
    """``path`` as the ranks of a cluster job find it: each node unpacks the job's folder in a place of its own."""
    if not ray.get_runtime_context().runtime_env.get("working_dir"):
        return path
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _usable_cluster(
    resources: Resources, foreign: bool, paths: tuple[str, ...], warm: tuple[str, ...], probe: RayProbe
) -> RayCluster:
    total = ray.cluster_resources()
    gpus = resources.gpus_per_rank
    if gpus == "measured":
        if total.get("GPU", 0) < 1:
            raise UserError(
                "resources.gpus_per_rank: measured needs a GPU to measure on, and the cluster has none; "
                "leave it out, or set 0, to train on CPUs"
            )
        gpus = 1.0  # until it is measured
    if gpus == "auto":
        gpus = 1.0 if total.get("GPU", 0) >= resources.ranks else 0.0
    memory = gpus if 0 < gpus < 1 else 1.0
    ranks = 1 if resources.by_config else resources.ranks  # then a trial of several ranks takes several gangs
    shape = GangShape(ranks, resources.cpus_per_rank, gpus, memory, paths, warm)
    cluster = _with_gangs(shape, resources, foreign, probe)
    if cluster.gangs < most_ranks(resources) and resources.by_config:
        raise UserError(
            f"resources.by_config has trials of {most_ranks(resources)} ranks, and the cluster has room for "
            f"{cluster.gangs}"
        )
    return cluster


def with_gpu_share(cluster: RayCluster, resources: Resources, gpus_per_rank: float, gpu_memory: float) -> RayCluster:
    """The cluster with gangs whose ranks have another share of a GPU.

    Args:
        cluster: The connected cluster.
        resources: What a trial takes besides.
        gpus_per_rank: GPUs of each rank, also a share of one.
        gpu_memory: Share of a GPU's memory that torch may take in a rank.
    """
    shape = replace(cluster.shape, gpus_per_rank=gpus_per_rank, gpu_memory=gpu_memory)
    return _with_gangs(shape, resources, cluster.may_grow, cluster.probe)


def cpu_gangs(resources: Resources) -> int:
    """Gangs that the cluster's CPUs allow at once, and ``max_concurrent``.

    Args:
        resources: What a trial takes.
    """
    ranks = 1 if resources.by_config else resources.ranks
    fit = int(ray.cluster_resources().get("CPU", 0) // (ranks * resources.cpus_per_rank))
    return min(fit, resources.max_concurrent or fit)


def _gpu_gangs(gpus: float, shape: GangShape) -> int:
    """Gangs that so many GPUs hold: a rank's share is of one GPU, never of two."""
    if shape.gpus_per_rank < 1:
        return int(gpus) * trials_per_gpu(shape.gpus_per_rank) // shape.ranks
    return int(gpus // (shape.ranks * shape.gpus_per_rank))


def room_for(shape: GangShape, resources: Resources) -> int:
    """Gangs that the cluster, as it is now, holds at once.

    Args:
        shape: What each gang is made of.
        resources: What a trial takes.
    """
    gangs = cpu_gangs(resources)
    if shape.gpus_per_rank:
        gangs = min(gangs, _gpu_gangs(ray.cluster_resources().get("GPU", 0), shape))
    return gangs


def _with_gangs(shape: GangShape, resources: Resources, foreign: bool, probe: RayProbe) -> RayCluster:
    total = ray.cluster_resources()
    gangs = room_for(shape, resources)
    if gangs < 1:
        raise UserError(
            f"no trial fits: it needs {shape.ranks} x {shape.cpus_per_rank} CPUs and "
            f"{shape.ranks * shape.gpus_per_rank:g} GPUs, the cluster has {total.get('CPU', 0):g} and "
            f"{total.get('GPU', 0):g}; lower `resources`"
        )
    # Tune must have something to count. Trainables do no work, so they take none of the ranks' CPUs. On a cluster of
    # others only the head node has a resource that all clusters have.
    trainable = {"node:__internal_head__": 0.0001} if foreign else {"expflow": total["expflow"] / gangs}
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    limits = AttemptLimits(resources.stall_seconds, resources.trial_seconds)
    return RayCluster(shape, gangs, trainable, here, limits, probe, may_grow=foreign)
