"""Runs what a conductor hands out on Ray: gangs train, and Ray Tune schedules.

The driver imports this only where something is left to run, since Ray costs seconds.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable
from typing import Any

import ray

from expflow.files import scratch_folder
from expflow.storage.driver_session import session_of
from expflow.sweep.cluster_growth import ClusterGrowth
from expflow.sweep.conductor import Conductor
from expflow.sweep.dispatcher import Dispatcher
from expflow.sweep.gpu_packing import measure_and_pack
from expflow.sweep.plan import Plan
from expflow.sweep.ray_cluster import RayCluster, connected, room_for
from expflow.sweep.ray_supervision import run_supervised
from expflow.sweep.stop_signals import signals_noted, stopped_long_ago
from expflow.sweep.sweep_session import SweepSession
from expflow.training.contract import runner_of
from expflow.training.template.process import RankTemplate

READ_SECONDS = 0.2
"""How long the driver waits for messages at once: so soon it notices a signal."""

RANKS_MODULE = "expflow.training.ranks"
"""What ranks need that may have to meet in the middle of a sweep: torch."""

_FOLLOWED = {"working_dir", "py_modules", "env_vars", "excludes", "worker_process_setup_hook", "config", "_ray_commit"}
"""What a job's runtime environment may hold where its ranks are forked: a fork follows what reaches a worker by its
environment. A Python of the job's own is one that the template does not run on."""


def run_on_ray(plan: Plan, conductor: Conductor, template: RankTemplate, on_slots: Callable[[int], None]) -> None:
    """Connect to Ray and have the ranks warm up; then let Tune schedule until nothing is left or a signal came.

    Args:
        plan: The sweep's plan.
        conductor: Hands out what is left, and records what comes of it.
        template: What ranks on this machine are forked from.
        on_slots: Called with the number of trials that can run at once, on whatever thread finds out.
    """
    name = f"expflow-{uuid.uuid4().hex[:8]}"
    experiment = plan.loaded.experiment
    session = session_of(plan.folder)
    warm = [runner_of(experiment.recipe).partition(":")[0], *((session.module,) if session else ())]
    if experiment.resources.by_config:
        warm.append(RANKS_MODULE)
    paths = (str(experiment.file.parent),)
    with (
        connected(experiment.resources, plan.site.ray, name, paths=paths, warm=tuple(warm)) as cluster,
        signals_noted(conductor),  # again: Ray has put a handler of its own in place
    ):
        work = functools.partial(_run_gangs, plan, conductor, name, cluster, template, on_slots)

        def ray_is_lost() -> bool:
            if conductor.interrupted_by is not None:
                return stopped_long_ago(conductor.interrupted_at) or cluster.probe.lost()
            template.start()  # again, where it was killed
            return cluster.probe.lost()

        if not run_supervised(work, ray_is_lost):
            conductor.abandoned = cluster.probe.given_up = True


def _run_gangs(
    plan: Plan,
    conductor: Conductor,
    name: str,
    cluster: RayCluster,
    template: RankTemplate,
    on_slots: Callable[[int], None],
) -> None:
    """Make the dispatcher, and have it run trials until nothing is left or a signal came."""
    if plan.loaded.experiment.resources.gpus_per_rank == "measured":
        cluster = measure_and_pack(plan, conductor, cluster)
    on_slots(cluster.gangs)
    dispatcher: Any = (
        ray.remote(Dispatcher)
        .options(name=name, num_cpus=0, max_concurrency=10_000, scheduling_strategy=cluster.beside_driver)
        .remote(cluster.shape, cluster.gangs, conductor.decides, cluster.attempt_limits, _executables(template))
    )
    try:
        dispatcher.start.remote()
        growth = None
        if cluster.may_grow:
            room = functools.partial(room_for, cluster.shape, plan.loaded.experiment.resources)
            growth = ClusterGrowth(dispatcher, cluster.gangs, room, on_slots)
        session = SweepSession(plan, conductor, dispatcher, cluster.gangs + 1, conductor.decides, growth)
        _run_session(session, name, cluster)
        with contextlib.suppress(ray.exceptions.RayError):  # it may be what was lost; the ledger knows what is left
            ray.get(dispatcher.close.remote(), timeout=30)
    finally:
        ray.kill(dispatcher)  # and with it its gangs; a cluster that this process only visits goes on


def _run_session(session: SweepSession, name: str, cluster: RayCluster) -> None:
    session.begin()
    try:
        _read_directly(session)
        if not session.over:
            _run_tune(session, name, cluster)
    finally:
        session.end()


def _executables(template: RankTemplate) -> dict[str, str]:
    """Node's id -> what ranks there are executed by in place of Python: on this node, forks of the template."""
    here = ray.get_runtime_context()
    if not template.start() or not set(here.runtime_env) <= _FOLLOWED:
        return {}
    return {here.get_node_id(): template.executable}


def _read_directly(session: SweepSession) -> None:
    """Read the first messages without Tune, until the sweep is over, or has more trials than there is room for.

    Before that there is nothing to schedule, and Tune and its trainable would take their time from the first trials.
    """
    while session.reads and not session.is_scheduling:
        session.read(READ_SECONDS)
        session.tick()


def _run_tune(session: SweepSession, name: str, cluster: RayCluster) -> None:
    """Tune's loop, until nothing is left to run."""
    from ray import tune  # a second that the first trials need not wait for

    from expflow.sweep.tune_adapters import ConductorSearcher, RecordingStopper, RelayTrainable
    from expflow.sweep.tune_session import SESSIONS, TuneSession

    SESSIONS[name] = TuneSession(session)
    trainable = tune.with_resources(RelayTrainable, tune.PlacementGroupFactory([dict(cluster.trainable_resources)]))
    try:
        with scratch_folder("expflow-tune-") as scratch:
            tuner = tune.Tuner(
                trainable,
                param_space={"dispatcher": name},
                tune_config=tune.TuneConfig(search_alg=ConductorSearcher(name), num_samples=-1),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=str(scratch),
                    stop=RecordingStopper(name),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    progress_reporter=tune.CLIReporter(),  # silent by the next line; that for notebooks clears the cell
                    verbose=0,
                ),
            )
            tuner.fit()
    finally:
        SESSIONS.pop(name)
