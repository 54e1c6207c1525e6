"""The prepared data of a plan's recipes: each data set is prepared once, when a trial first needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.data.prepare.prepared import PreparedData, data_key, prepared_without_files, with_labels_of, with_recipe
from expflow.data.prepare.slots import prepare_slots
from expflow.data.slots import slot_sources
from expflow.data.source_spec import ShardedSourceSpec
from expflow.errors import DataMissing, ExperimentInvalid
from expflow.sweep.plan import Plan


def prepared_data(plan: Plan, recipe: Recipe, seed: int | None = None) -> PreparedData | None:
    """The recipe's prepared data; None where its task brings its own or needs none.

    Args:
        plan: The plan that the recipe belongs to; it remembers what was prepared.
        recipe: The recipe of any of its configs.
        seed: The trial's seed, by which some data are split; None: the sweep's first.

    Raises:
        ExperimentInvalid: The file names a folder that is not there.
        DataMissing: The data are not on this machine. Also what :func:`~expflow.data.prepare.build.prepare` raises.
    """
    with _placed(plan):
        if not isinstance(recipe.data, ShardedSourceSpec):
            return prepare_slots(recipe, lambda source: prepared_source(plan, source), Path(plan.site.cache))
        spec = recipe.data.of_trial(plan.sweep.seeds[0] if seed is None else seed)
        data, labeller = prepared_source(plan, spec), plan.labellers.of(recipe)
    return data if labeller is None else with_labels_of(data, spec, labeller.weights.id)


@contextmanager
def _placed(plan: Plan) -> Iterator[None]:
    """In the body, data that the file itself sends to a wrong place are an error with that place in the file."""
    try:
        yield
    except DataMissing as error:
        if not error.key:
            raise
        raise ExperimentInvalid([plan.problem_at(error.key, str(error))]) from error


def prepared_source(plan: Plan, spec: ShardedSourceSpec) -> PreparedData:
    """One source, prepared once for a plan.

    Args:
        plan: The plan that the source belongs to; it remembers what was prepared.
        spec: The source.

    Raises:
        DataMissing: The data are not on this machine. Also what :func:`~expflow.data.prepare.build.prepare` raises.
    """
    key = data_key(spec)
    if key not in plan.cache.prepared:
        plan.cache.prepared[key] = _prepare(plan, spec)
    return with_recipe(plan.cache.prepared[key], spec)


def data_remarks(plan: Plan) -> list[str]:
    """What a user should know of the data that the plan has prepared so far: what was passed over, empty classes.

    Args:
        plan: The plan.
    """
    slots = {data_key(source): slot for slot, source in slot_sources(plan.loaded.experiment.recipe).items()}
    lines = (
        f"{slots[key]}: {line}" if key in slots else line
        for key, data in plan.cache.prepared.items()
        for line in data.manifest.remarks()
    )
    return list(dict.fromkeys(lines))


def _prepare(plan: Plan, spec: ShardedSourceSpec) -> PreparedData:
    folder = plan.loaded.experiment.file.parent
    try:
        return prepare(spec, cache=plan.site.cache, folder=folder, site_path=plan.site.data.get(spec.name))
    except DataMissing:
        if plan.supposing and (published := prepared_without_files(spec)) is not None:
            return published
        raise
