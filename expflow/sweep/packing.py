"""Several trials on one GPU, by measured memory (``resources.gpus_per_rank: measured``).

Before the gangs are made, a Ray task that has one GPU of the cluster to itself takes a few real steps of the configs
that need most of its memory. What the neediest took, and a margin, says how many trials a GPU holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from expflow.architectures import Count
from expflow.config.identity import dump, readable
from expflow.config.schema import Recipe
from expflow.data.build import Prepared
from expflow.errors import ExperimentInvalid, GangsLost, UserError
from expflow.events import Packed
from expflow.sweep.conductor import Conductor
from expflow.sweep.estimate import counted
from expflow.sweep.machine import Machine, cpu_gangs, shared
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.pretrained import keep
from expflow.sweep.rank import import_from
from expflow.sweep.searchers.listed import RandomSearch
from expflow.sweep.searchers.specs import Random
from expflow.training.contract import Attempt, DeviceNeed, World, device_need

MARGIN = 0.1
"""What a trial gets beyond what was measured, as a share of it: memory falls into pieces in the course of hours, and a
later batch may want another kernel's workspace."""

MOST_MEASURED = 8
"""Configs of which real steps are taken."""

DRAWS = 64
"""Configs that are drawn at random of a space whose searcher learns: its first proposals need not be the largest."""

RAY_UNITS = 10_000
"""Ray counts shares of a GPU in such units; a share is rounded down to them, or the last trial would find no room."""

MOST_AT_ONCE = 100
"""Trials on one GPU: shares of more could not be told apart in Ray's units."""


def pack(needs: Mapping[str, DeviceNeed], gangs: int, gpus: int) -> Packed:
    """How many trials share each of ``gpus`` GPUs, where ``gangs`` may run at once for all that is no GPU.

    ``needs`` are by config, in words. At least one trial has a GPU, however much it needs.
    """
    config = max(needs, key=lambda each: _share(needs[each]))
    need = needs[config]
    share = _share(need)
    fits = int(1 / (share * (1 + MARGIN)) + 1e-9) if share > 0 else MOST_AT_ONCE
    at_once = max(1, min(fits, math.ceil(gangs / gpus), MOST_AT_ONCE))
    devices = math.floor(RAY_UNITS / at_once) / RAY_UNITS
    return Packed(config, need.peak, need.context, need.total, fits, at_once, devices)


def _share(need: DeviceNeed) -> float:
    return math.inf if need.peak is None else (need.peak + need.context) / need.total


def memory_of(packed: Packed) -> float:
    """The share of a GPU's memory that torch may take in each rank: CUDA's own part is beside it."""
    if packed.at_once == 1:
        return 1.0
    return 1 / packed.at_once - packed.context / packed.total


def heaviest(recipe: Recipe, data: Prepared | None) -> Recipe:
    """``recipe`` as it is when it needs most memory, from its first step on: at its largest images, nothing frozen that
    is trained later."""
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


def candidates(plan: Plan) -> list[PlannedTrial]:
    """One trial of each of the configs that may need most memory, at most :data:`MOST_MEASURED`.

    Most by activations (multiply-adds times batch, in the numbers that are computed with), and two by parameters.
    Configs that differ in real numbers alone, a learning rate for example, count as one. Where multiply-adds are not
    known they are spread over the proposals.
    """
    counts: dict[str, Count | None] = {}
    known: dict[str, tuple[PlannedTrial, Count]] = {}
    unknown: dict[str, PlannedTrial] = {}
    for trial in _all(plan):
        recipe = trial.recipe
        tree = dump(recipe)
        network = repr((tree.get("model"), tree.get("data")))
        try:
            if network not in counts:
                counts[network] = counted(recipe, trial.data)
        except UserError:  # it cannot be built; its trial will say so
            continue
        found = counts[network]
        if found is None or found.macs is None:
            unknown.setdefault(trial.config, trial)
        else:
            known.setdefault(repr((found, _without_floats(tree))), (trial, found))
    each = list(known.values())
    few = sorted(each, key=lambda one: -_work(*one))[: MOST_MEASURED - 2]
    few += sorted((one for one in each if one not in few), key=lambda one: -one[1].params)[:2]
    return [trial for trial, _ in few] + _spread(list(unknown.values()), MOST_MEASURED - len(few))


def _all(plan: Plan) -> Iterator[PlannedTrial]:
    seen = ""
    for trial in plan.trials():  # those of a config follow each other
        if trial.config != seen:
            yield trial
        seen = trial.config
    if not plan.learns:
        return
    draws = RandomSearch(Random(trials=DRAWS), plan.sweep.space, plan.mode)  # type: ignore[arg-type]
    for _ in range(DRAWS):
        if (values := draws.suggest()) is None:
            return
        try:
            yield from plan.expand(values, plan.sweep.seeds[:1])
        except ExperimentInvalid:  # a combination that the schema refuses is no trial
            continue


def _work(trial: PlannedTrial, found: Count) -> float:
    recipe = trial.recipe
    batch = getattr(recipe.data, "batch_size", 1)
    if batch == "all":
        batch = trial.data.spec.samples.get("train", 1) if trial.data is not None else 1
    width = 2 if recipe.trainer.precision in ("16-mixed", "bf16-mixed") else 4
    return float(found.macs or 0) * batch * width


def _without_floats(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _without_floats(each) for key, each in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_floats(each) for each in tree]
    return None if isinstance(tree, float) else tree


def _spread(trials: Sequence[PlannedTrial], most: int) -> list[PlannedTrial]:
    if len(trials) <= most:
        return list(trials)
    return [trials[index] for index in np.linspace(0, len(trials) - 1, most).round().astype(int)]


def packed_machine(plan: Plan, conductor: Conductor, machine: Machine) -> Machine:
    """``machine``, which has a GPU for each rank, with as many trials on each GPU as it was measured to hold.

    What was found is recorded. A signal ends the measuring. Raises :class:`UserError` where the steps of every config
    fail, and :class:`GangsLost` where the process that takes them is lost.
    """
    resources = plan.loaded.experiment.resources
    found = _measured(plan, machine, lambda: conductor.interrupted_by is not None)
    if found is None:
        return machine
    gpus = int(ray.cluster_resources()["GPU"])
    chosen = pack(found, cpu_gangs(resources), gpus)
    conductor.record(chosen)
    return shared(machine, resources, chosen.devices, memory_of(chosen))


def _measured(plan: Plan, machine: Machine, stopped: Callable[[], bool]) -> dict[str, DeviceNeed] | None:
    """What the candidates need, by config in words; None where a signal came."""
    attempts = [(readable(each.values), _attempt(plan, each)) for each in candidates(plan)]
    world = World(threads=machine.shape.cpus_per_rank, gpus=1)
    # One call a process: CUDA's memory is free again when it ends, before the gangs are there.
    task: Any = ray.remote(num_gpus=1, num_cpus=machine.shape.cpus_per_rank, max_calls=1, max_retries=0)(_measure)
    answer = task.remote(attempts, world, machine.shape.paths)
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
    return Attempt(heaviest(trial.recipe, trial.data), trial.seed, root, weights=keep(trial.weights, plan.folder))


def _measure(
    attempts: Sequence[tuple[str, Attempt]], world: World, paths: tuple[str, ...]
) -> tuple[dict[str, DeviceNeed], list[str]]:
    """On a GPU's node: what each attempt needs, and in words which failed."""
    import_from(paths)
    needs: dict[str, DeviceNeed] = {}
    failed: list[str] = []
    for config, attempt in attempts:
        try:
            needs[config] = device_need(attempt, world)
        except Exception as error:  # noqa: BLE001  the user's network, loss or task runs here and may raise anything
            where = f" ({config})" if config else ""
            failed.append(f"{type(error).__name__}: {error}{where}")
    return needs, failed
