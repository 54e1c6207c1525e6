"""Several trials on one GPU, by measured memory (``resources.gpus_per_rank: measured``).

Before the gangs are made, a Ray task that has one GPU of the cluster to itself takes a few real steps of the configs
that need most of its memory. The largest need, and a margin, give the number of trials that a GPU holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from expflow.architectures import NetworkCost
from expflow.config.component_specs import source_spec
from expflow.config.identity import config_text, dump
from expflow.config.schema import Recipe
from expflow.data.prepare.prepared import PreparedData
from expflow.data.stores.signed_urls import keep_queries, signed_addresses
from expflow.errors import ExperimentInvalid, GangsLost, UserError
from expflow.events import GpuSharingMeasured
from expflow.sweep.conductor import Conductor
from expflow.sweep.network_counts import count_recipe
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.rank import import_from
from expflow.sweep.ray_cluster import RayCluster, cpu_gangs, with_gpu_share
from expflow.sweep.searchers.model_free import RandomSearch
from expflow.sweep.searchers.specs import RandomSpec
from expflow.sweep.trial_expansion import expand_config, planned_trials
from expflow.sweep.weight_copies import keep_copies, with_copies
from expflow.training.contract import Attempt, DeviceNeed, World, device_need

MARGIN = 0.1
"""What a trial gets beyond what was measured, as a share of it: memory falls into pieces in the course of hours, and a
later batch may want another kernel's workspace."""

MAX_MEASURED = 8
"""Configs of which real steps are taken."""

DRAWS = 64
"""Configs that are drawn at random of a space whose searcher learns: its first proposals need not be the largest."""

RAY_UNITS = 10_000
"""Ray counts shares of a GPU in such units; a share is rounded down to them, or the last trial would find no room."""

MAX_AT_ONCE = 100
"""Trials on one GPU: shares of more could not be told apart in Ray's units."""


def pack(needs: Mapping[str, DeviceNeed], gangs: int, gpus: int) -> GpuSharingMeasured:
    """How many trials share each GPU. At least one trial has a GPU, however much it needs.

    Args:
        needs: Config in words -> what its first steps took.
        gangs: How many gangs may run at once for all that is no GPU.
        gpus: Number of GPUs.
    """
    config = max(needs, key=lambda name: _share(needs[name]))
    need = needs[config]
    share = _share(need)
    fits = int(1 / (share * (1 + MARGIN)) + 1e-9) if share > 0 else MAX_AT_ONCE
    at_once = max(1, min(fits, math.ceil(gangs / gpus), MAX_AT_ONCE))
    devices = math.floor(RAY_UNITS / at_once) / RAY_UNITS
    return GpuSharingMeasured(config, need.peak, need.context, need.total, fits, at_once, devices)


def _share(need: DeviceNeed) -> float:
    return math.inf if need.peak is None else (need.peak + need.context) / need.total


def gpu_memory_share(packed: GpuSharingMeasured) -> float:
    """The share of a GPU's memory that torch may take in each rank: CUDA's own part is beside it.

    Args:
        packed: How many trials share a GPU, and by which measurement.
    """
    if packed.at_once == 1:
        return 1.0
    return 1 / packed.at_once - packed.context / packed.total


def peak_memory_recipe(recipe: Recipe, data: PreparedData | None) -> Recipe:
    """A recipe as it is when it needs most memory, from its first step on: at its largest images, nothing frozen that
    is trained later.

    Args:
        recipe: The trial's recipe.
        data: Its prepared data; None where its task brings its own or needs none.
    """
    sizes, init = recipe.trainer.image_sizes, recipe.init
    if sizes:
        largest = max(pixels for _, pixels in sizes)
        own = max(data.spec.image_size) if data is not None and "image" in data.spec.fields else 0
        whole = sizes[0][0] > 0 and own >= largest
        trainer = recipe.trainer.model_copy(update={"image_sizes": () if whole else ((0, largest),)})
        recipe = recipe.model_copy(update={"trainer": trainer})
    if init is not None and init.unfreeze_after is not None:
        init = init.model_copy(update={"freeze": (), "unfreeze_after": None})
        recipe = recipe.model_copy(update={"init": init})
    return recipe


def memory_candidates(plan: Plan) -> list[PlannedTrial]:
    """One trial of each of the configs that may need most memory, at most :data:`MAX_MEASURED`.

    Most by activations (multiply-adds times batch, in the numbers that are computed with), and two by parameters.
    Configs that differ in real numbers alone, a learning rate for example, count as one. Where multiply-adds are not
    known they are spread over the proposals.

    Args:
        plan: The plan whose configs are compared.
    """
    counts: dict[str, NetworkCost | None] = {}
    known: dict[str, tuple[PlannedTrial, NetworkCost]] = {}
    unknown: dict[str, PlannedTrial] = {}
    for trial in _one_of_each_config(plan):
        recipe = trial.recipe
        tree = dump(recipe)
        network = repr((tree.get("model"), tree.get("data")))
        try:
            if network not in counts:
                counts[network] = count_recipe(recipe, trial.data)
        except UserError:  # it cannot be built; its trial will fail with the reason
            continue
        cost = counts[network]
        if cost is None or cost.macs is None:
            unknown.setdefault(trial.config, trial)
        else:
            known.setdefault(repr((cost, _without_floats(tree))), (trial, cost))
    pairs = list(known.values())
    chosen = sorted(pairs, key=lambda pair: -_activation_bytes(*pair))[: MAX_MEASURED - 2]
    chosen += sorted((pair for pair in pairs if pair not in chosen), key=lambda pair: -pair[1].params)[:2]
    return [trial for trial, _ in chosen] + _spread(list(unknown.values()), MAX_MEASURED - len(chosen))


def _one_of_each_config(plan: Plan) -> Iterator[PlannedTrial]:
    seen = ""
    for trial in planned_trials(plan):  # those of a config follow each other
        if trial.config != seen:
            yield trial
        seen = trial.config
    if not plan.learns:
        return
    draws = RandomSearch(RandomSpec(trials=DRAWS), plan.sweep.space, plan.mode)  # type: ignore[arg-type]
    for _ in range(DRAWS):
        if (values := draws.suggest()) is None:
            return
        try:
            yield from expand_config(plan, values, plan.sweep.seeds[:1])
        except ExperimentInvalid:  # a combination that the schema refuses is no trial
            continue


def _activation_bytes(trial: PlannedTrial, cost: NetworkCost) -> float:
    """A number that grows with the bytes of a batch's activations."""
    recipe = trial.recipe
    batch = source_spec(recipe.data).samples_per_batch or 1
    if batch == "all":
        batch = trial.data.spec.samples.get("train", 1) if trial.data is not None else 1
    width = 2 if recipe.trainer.precision in ("16-mixed", "bf16-mixed") else 4
    return float(cost.macs or 0) * batch * width


def _without_floats(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _without_floats(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_floats(value) for value in tree]
    return None if isinstance(tree, float) else tree


def _spread(trials: Sequence[PlannedTrial], most: int) -> list[PlannedTrial]:
    if len(trials) <= most:
        return list(trials)
    return [trials[index] for index in np.linspace(0, len(trials) - 1, most).round().astype(int)]


def measure_and_pack(plan: Plan, conductor: Conductor, cluster: RayCluster) -> RayCluster:
    """The cluster with as many trials on each GPU as it was measured to hold.

    The measurement is recorded. A signal ends it, and leaves the cluster as it is.

    Args:
        plan: The sweep's plan.
        conductor: Records the measurement.
        cluster: The cluster, with a GPU for each rank.

    Raises:
        UserError: The steps of every config fail.
        GangsLost: The process that takes them is lost.
    """
    resources = plan.loaded.experiment.resources
    needs = _measured_needs(plan, cluster, lambda: conductor.interrupted_by is not None)
    if needs is None:
        return cluster
    gpus = int(ray.cluster_resources()["GPU"])
    packed = pack(needs, cpu_gangs(resources), gpus)
    conductor.record(packed)
    return with_gpu_share(cluster, resources, packed.devices, gpu_memory_share(packed))


def _measured_needs(plan: Plan, cluster: RayCluster, stopped: Callable[[], bool]) -> dict[str, DeviceNeed] | None:
    """What the candidates need, by config in words; None where a signal came."""
    attempts = [(config_text(trial.values), _attempt(plan, trial)) for trial in memory_candidates(plan)]
    world = World(threads=cluster.shape.cpus_per_rank, gpus=1)
    # One call a process: CUDA's memory is free again when it ends, before the gangs are there.
    task: Any = ray.remote(num_gpus=1, num_cpus=cluster.shape.cpus_per_rank, max_calls=1, max_retries=0)(_measure)
    answer = task.remote(attempts, world, cluster.shape.paths, signed_addresses())
    while not ray.wait([answer], timeout=0.5)[0]:
        if stopped():
            ray.cancel(answer, force=True)
            return None
    try:
        needs, failed = ray.get(answer)
    except ray.exceptions.RayError as error:
        raise GangsLost(
            f"the process that measured how much of a GPU a trial needs was lost: {error}. Try again, or say how many "
            "trials share a GPU with resources.gpus_per_rank: 0.5, for example"
        ) from error
    if not needs:
        raise UserError(
            "resources.gpus_per_rank: nothing could be measured, since a few steps of training fail: "
            + "; ".join(failed or ["no config of the plan can be built"])
        )
    return dict(needs)


def _attempt(plan: Plan, trial: PlannedTrial) -> Attempt:
    """A trial that leaves nothing behind."""
    root = Path(trial.data.root) if trial.data is not None else None
    return Attempt(
        peak_memory_recipe(trial.recipe, trial.data),
        trial.seed,
        root,
        weights=keep_copies(trial.weights, plan.folder),
        features=with_copies(trial.features, plan.folder),
        labeller=with_copies(trial.labeller, plan.folder),
    )


def _measure(
    attempts: Sequence[tuple[str, Attempt]], world: World, paths: tuple[str, ...], addresses: tuple[str, ...] = ()
) -> tuple[dict[str, DeviceNeed], list[str]]:
    """On a GPU's node: what each attempt needs, and in words which failed."""
    import_from(paths)
    keep_queries(addresses)
    needs: dict[str, DeviceNeed] = {}
    failed: list[str] = []
    for config, attempt in attempts:
        try:
            needs[config] = device_need(attempt, world)
        except Exception as error:  # noqa: BLE001  the user's network, loss or task runs here and may raise anything
            where = f" ({config})" if config else ""
            failed.append(f"{type(error).__name__}: {error}{where}")
    return needs, failed
