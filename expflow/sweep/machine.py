"""The Ray cluster that a sweep runs on: this machine's own, started for the sweep, or one that is there."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from expflow.config.schema import Resources
from expflow.errors import ServerUnreachable, UserError
from expflow.sweep.gang import Patience
from expflow.sweep.rank import Shape
from expflow.training.allocator import TUNABLES
from expflow.training.contract import sharing

_QUIET = {
    # Ray Tune's own state is a cache that nobody reads: the ledger is the truth.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_THRESHOLD_S": "30",
    # Tune would start a searcher's trials one by one; how many there are at once is for the session to say.
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Nothing may leave the machine unasked.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_TOKEN = secrets.token_hex(32)
"""A token of this process's own for the Ray it starts, never written to disk. Ray 2.60 turns authentication on for a
new local cluster and reads the token once, so it stays the same as long as the process lives."""


@dataclass(frozen=True)
class Machine:
    """A connected cluster: what a gang is made of, how many fit, what holds one trainable to the head node, an actor
    to this one, and how long an attempt may take."""

    shape: Shape
    gangs: int
    token: dict[str, float]
    beside_us: NodeAffinitySchedulingStrategy
    patience: Patience


@contextmanager
def _environment(extra: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in (*extra, "RAY_AUTH_MODE")}  # ray.init may set the mode
    os.environ.update(extra)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def cluster_address(site: str | None) -> str | None:
    """The cluster to connect to: ``RAY_ADDRESS``, which a cluster job finds set for it, else the site's.

    A site's http address is that of a dashboard: where ``submit`` sends jobs, and nothing that Ray can connect to.
    Raises :class:`UserError` where ``RAY_ADDRESS`` is such an address.
    """
    if given := os.environ.get("RAY_ADDRESS"):
        if _is_dashboard(given):
            raise UserError(
                f"RAY_ADDRESS is {given}, a dashboard's address: `expflow submit FILE --address {given}` sends an "
                "experiment there; unset RAY_ADDRESS to run it on this machine"
            )
        return given
    return None if site is None or _is_dashboard(site) else site


def _is_dashboard(address: str) -> bool:
    return address.startswith(("http://", "https://"))


@contextmanager
def connected(
    resources: Resources, site: str | None, namespace: str, *, paths: tuple[str, ...], warm: tuple[str, ...]
) -> Iterator[Machine]:
    """Connect to the Ray cluster that :func:`cluster_address` names, or start Ray on this machine alone.

    A process that is connected already, such as a notebook's, stays so: its cluster is used and left as it was.
    ``site`` is the site file's address; ``paths`` are put before the ranks' import path, ``warm`` modules imported
    early. Raises :class:`ServerUnreachable` where no head answers, :class:`UserError` where no gang fits.
    """
    if ray.is_initialized():
        _refuse_client()
        with _environment(_QUIET), _quiet_logs():
            yield _machine(resources, True, tuple(map(_portable, paths)), warm)
        return
    address = cluster_address(site)
    extra: dict[str, str] = dict(_QUIET)
    if not address:
        # Ray's processes hand their environment on to the ranks.
        extra |= {key: value for key, value in (("RAY_AUTH_TOKEN", _TOKEN), TUNABLES) if not os.environ.get(key)}
    with _environment(extra), _quiet_logs():
        _start(address, namespace)
        try:
            yield _machine(resources, bool(address), tuple(map(_portable, paths)), warm)
        finally:
            ray.shutdown()


def _refuse_client() -> None:
    """Ray's client runs Tune in another process, where nobody could write the ledger."""
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
            ray.init(
                address="local",
                namespace=namespace,
                resources=slots,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # Ray says only so when a machine is too busy to start it in half a minute
        where = f"the Ray head at {address}" if address else "Ray on this machine"
        raise ServerUnreachable(f"{where} did not start or answer: {error}") from error


def _portable(path: str) -> str:
    """``path`` as the ranks of a cluster job find it: each node unpacks the job's folder in a place of its own."""
    if not ray.get_runtime_context().runtime_env.get("working_dir"):
        return path
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _machine(resources: Resources, foreign: bool, paths: tuple[str, ...], warm: tuple[str, ...]) -> Machine:
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
    return _made_of(Shape(resources.ranks, resources.cpus_per_rank, gpus, memory, paths, warm), resources, foreign)


def shared(machine: Machine, resources: Resources, gpus_per_rank: float, gpu_memory: float) -> Machine:
    """``machine`` with gangs whose ranks have another share of a GPU, and of its memory."""
    shape = replace(machine.shape, gpus_per_rank=gpus_per_rank, gpu_memory=gpu_memory)
    return _made_of(shape, resources, foreign="expflow" not in machine.token)


def cpu_gangs(resources: Resources) -> int:
    """Gangs that the cluster's CPUs allow at once, and ``max_concurrent``."""
    fit = int(ray.cluster_resources().get("CPU", 0) // (resources.ranks * resources.cpus_per_rank))
    return min(fit, resources.max_concurrent or fit)


def _gpu_gangs(gpus: float, shape: Shape) -> int:
    """Gangs that so many GPUs hold: a rank's share is of one GPU, never of two."""
    if shape.gpus_per_rank < 1:
        return int(gpus) * sharing(shape.gpus_per_rank) // shape.ranks
    return int(gpus // (shape.ranks * shape.gpus_per_rank))


def _made_of(shape: Shape, resources: Resources, foreign: bool) -> Machine:
    total = ray.cluster_resources()
    gangs = cpu_gangs(resources)
    if shape.gpus_per_rank:
        gangs = min(gangs, _gpu_gangs(total.get("GPU", 0), shape))
    if gangs < 1:
        raise UserError(
            f"no trial fits: it needs {shape.ranks} x {shape.cpus_per_rank} CPUs and "
            f"{shape.ranks * shape.gpus_per_rank:g} GPUs, the cluster has {total.get('CPU', 0):g} and "
            f"{total.get('GPU', 0):g}; lower `resources`"
        )
    # Tune must have something to count. Trainables do no work, so they take none of the ranks' CPUs.
    token = {"node:__internal_head__": 0.0001} if foreign else {"expflow": total["expflow"] / gangs}
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Machine(shape, gangs, token, here, Patience(resources.stall_seconds, resources.trial_seconds))
