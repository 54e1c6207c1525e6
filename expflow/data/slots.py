"""Several data sources in one recipe, each under a slot that its task declares (``data: {image: …, condition: …}``).

The first slot that the task declares is the leading one. A batch holds its fields under their names, and those of every
other slot as ``slot.field``. Neither numpy nor torch is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from expflow.config.component_specs import task_spec
from expflow.config.schema import Recipe
from expflow.data.dataspec import DataSpec
from expflow.data.source_spec import ShardedSourceSpec
from expflow.errors import DataMissing, ExperimentInvalid, ExpflowError, UserError

TRAIN = "train"


def slot_sources(recipe: Recipe) -> dict[str, ShardedSourceSpec]:
    """The sources of a recipe that names several, the leading one first; empty where it names one or none.

    Args:
        recipe: The recipe.
    """
    if not isinstance(recipe.data, Mapping):
        return {}
    named = {slot: source for slot, source in recipe.data.items() if isinstance(source, ShardedSourceSpec)}
    return {slot: named[slot] for slot in task_spec(recipe.task).sources if slot in named}


def leading_source(recipe: Recipe) -> ShardedSourceSpec | None:
    """The source whose keys say how large batches are; None where there is none, or the data are of the user's code.

    Args:
        recipe: The recipe.
    """
    if isinstance(recipe.data, ShardedSourceSpec):
        return recipe.data
    return next(iter(slot_sources(recipe).values()), None)


def slot_field(slot: str, name: str) -> str:
    """Name that a field of another slot than the leading one has in a batch.

    Args:
        slot: The slot.
        name: The field's name in its own source.
    """
    return f"{slot}.{name}"


@contextmanager
def naming_slot(slot: str) -> Iterator[None]:
    """In the body, errors about a source say under which slot it stands: two slots may hold sources of one name.

    Args:
        slot: The slot; "" for a source beside which there is no other.
    """
    try:
        yield
    except ExperimentInvalid:  # its problems have their places already
        raise
    except ExpflowError as error:
        if not slot:
            raise
        if isinstance(error, DataMissing) and error.key:
            error.key = f"data.{slot}{error.key.removeprefix('data')}"
        else:
            error.args = (f"data.{slot}: {error}",)
        raise


def epoch_samples(specs: Mapping[str, DataSpec], split: str) -> int:
    """How many samples of each slot one pass takes: in training as many as the largest has, so that the others come
    again; in evaluation as many as the smallest has, so that none is counted twice.

    Args:
        specs: What is known of the data of each slot.
        split: Name of the split.
    """
    counts = [spec.samples.get(split, 0) for spec in specs.values()]
    return max(counts) if split == TRAIN and all(counts) else min(counts)


def joined_spec(specs: Mapping[str, DataSpec]) -> DataSpec:
    """What a network needs to know of the data of several slots: classes and norms are those of the leading one.

    Args:
        specs: What is known of the data of each slot, the leading one first.

    Raises:
        UserError: Their images differ in size or channels.
    """
    (leading, first), *others = specs.items()
    fields = dict(first.fields)
    for slot, spec in others:
        if "image" in spec.fields and "image" in first.fields and spec.image_shape != first.image_shape:
            raise UserError(
                f"data.{slot} has images of shape {spec.image_shape} and data.{leading} of {first.image_shape}"
                " (channels, height, width): bring both to one size with image_size under each, and choose sources with"
                " equally many channels"
            )
        fields |= {slot_field(slot, name): field for name, field in spec.fields.items()}
    splits = [split for split in first.samples if all(split in spec.samples for spec in specs.values())]
    return replace(first, fields=fields, samples={split: epoch_samples(specs, split) for split in splits})
