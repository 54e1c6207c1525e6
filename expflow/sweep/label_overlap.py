"""Whether a trained classifier may label the train split of some data: what it takes, gives, and has learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from expflow.config.schema import Recipe
from expflow.config.site import Site
from expflow.data.prepare.find_shards import printable_origin
from expflow.data.prepare.prepared import PreparedData
from expflow.data.source_spec import ShardedSourceSpec
from expflow.training.transfer.trained_classifier import TrainedClassifier, TrainedOn

SPLIT_KEYS = ("search_val", "split_seed", "test_fraction", "val_fraction")
"""Keys of a source that say which of its images are in which split, and nothing else."""

_MOST_NAMED = 5


def trained_on(recipe: Recipe, data: PreparedData, folder: Path, site: Site) -> TrainedOn:
    """Which images the trials of a recipe learn from.

    Args:
        recipe: The recipe; its data are a source of expflow's.
        data: Its prepared data.
        folder: The experiment file's folder, where relative paths start.
        site: Where data lie on this machine.
    """
    spec = cast(ShardedSourceSpec, recipe.data)
    origin = printable_origin(spec.origin(folder, site.data.get(spec.name)))
    return TrainedOn(data.manifest.content, dict(data.manifest.source), origin, recipe.trainer.fit_on)


def label_problem(labeller: TrainedClassifier, data: PreparedData, now: TrainedOn) -> str:
    """Why a classifier may not label the train split of some data, in words; "" where it may.

    Args:
        labeller: The classifier.
        data: The data, of which it is to label the train split.
        now: The same for these data (:func:`trained_on`).
    """
    origin, theirs, own = labeller.weights.origin, labeller.data_spec, data.spec
    if not data.manifest.content:  # known from what is published alone, without names of classes
        return ""
    if theirs.classes != own.classes:
        return (
            f"{origin} tells other classes apart than these data have: {_listed(theirs.classes)}, and here"
            f" {_listed(own.classes)}; train one on the same classes, in the same order"
        )
    if theirs.image_shape != own.image_shape:
        return (
            f"{origin} takes images of shape {theirs.image_shape}, and these have {own.image_shape} (channels, height,"
            " width); bring both to one with data.image_size"
        )
    return _overlap(labeller, now)


def _overlap(labeller: TrainedClassifier, now: TrainedOn) -> str:
    """Why images of val or test may be among those that a classifier has learned from; "" where they are not, or where
    nothing tells."""
    origin, then = labeller.weights.origin, labeller.trained_on
    if then.content == now.content:
        if then.fit_on == "train":
            return ""
        return (
            f"{origin} was trained on the val images of these data, too (trainer.fit_on: {then.fit_on}); name another"
        )
    differing = _split_differences(then, now)
    if not differing:
        return ""
    settings = ", ".join(f"data.{key} was {then.source.get(key, 'default')}" for key in differing)
    return (
        f"{origin} was trained on another split of the same images ({settings}), so it may have seen those of val"
        " and test; train it on the split that these data have"
    )


def _split_differences(then: TrainedOn, now: TrainedOn) -> list[str]:
    """The keys by which two splits of the same images differ; empty where they may be of different images.

    A search that leaves out val and test (``search_val``) trains on a part of the train split that the same file has
    without it.
    """

    def without(source: Any, *keys: str) -> dict[str, Any]:
        return {key: value for key, value in source.items() if key not in (*keys, "labels")}

    if then.origin != now.origin or without(then.source, *SPLIT_KEYS) != without(now.source, *SPLIT_KEYS):
        return []
    if "search_val" not in now.source and without(then.source, "search_val") == without(now.source):
        return []
    return [key for key in SPLIT_KEYS if then.source.get(key) != now.source.get(key)]


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
