"""Prepared data: where their shards lie, and what a recipe makes of them. Imports neither numpy nor torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expflow.data.augment.sizes import seen_by_model
from expflow.data.dataspec import DataSpec
from expflow.data.shards.manifest import FIRST_READING, ShardManifest, checksum
from expflow.data.source_spec import ShardedSourceSpec

LABELS = "labels"
"""Where a source's description says whose labels its train split has; without it they are its own."""

OnProgress = Callable[[int, int], None]
"""Called with the samples that are done and those that there are."""


@dataclass(frozen=True)
class PreparedData:
    """Data that are ready for training.

    Attributes:
        root: folder of the manifest.
        manifest: the manifest in it.
        spec: the manifest's data spec with the recipe's ``limit`` and ``image_size`` applied.
        key: the data key (:func:`data_key`).
    """

    root: Path
    manifest: ShardManifest
    spec: DataSpec
    key: str


def data_key(spec: ShardedSourceSpec, reading: int = FIRST_READING) -> str:
    """Return a short hash of what the recipe says about the samples; the trial's id contains it.

    Args:
        spec: the recipe's source. Its paths and its batch size do not enter.
        reading: by which rules its files were read; the first ones do not enter.
    """
    return described_key(described_source(spec, reading))


def described_source(spec: ShardedSourceSpec, reading: int = FIRST_READING) -> dict[str, Any]:
    """Return what a manifest says of its source.

    Args:
        spec: the recipe's source.
        reading: by which rules its files were read; it stands there where they are not the first ones.
    """
    return spec.description() | ({"reading": reading} if reading != FIRST_READING else {})


def described_key(source: Mapping[str, Any]) -> str:
    """Return the data key of what a manifest says of its source.

    Args:
        source: the manifest's ``source``.
    """
    return checksum(source)[:12]


def limited(spec: DataSpec, limit: int | None) -> DataSpec:
    """Return a data spec with at most so many training samples.

    Args:
        spec: the data spec.
        limit: number of training samples; None for all.
    """
    if limit is None or "train" not in spec.samples:
        return spec
    return replace(spec, samples={**spec.samples, "train": min(limit, spec.samples["train"])})


def data_spec(manifest: ShardManifest, spec: ShardedSourceSpec) -> DataSpec:
    """Return what a model needs to know of the shards when a recipe trains it on them.

    Args:
        manifest: what the shards hold.
        spec: the recipe's source.

    Raises:
        UserError: no image size fits the stored images.
    """
    return seen_by_model(limited(manifest.spec, spec.limit), spec)


def prepared_data(spec: ShardedSourceSpec, root: Path, manifest: ShardManifest) -> PreparedData:
    """Return shards as one recipe uses them.

    Args:
        spec: the recipe's source.
        root: folder of the manifest.
        manifest: the manifest in it.

    Raises:
        UserError: no image size fits the stored images.
    """
    return PreparedData(root, manifest, data_spec(manifest, spec), data_key(spec, manifest.reading))


def prepared_without_files(spec: ShardedSourceSpec) -> PreparedData | None:
    """Return a stand-in, without shards, for data that are not on this machine.

    Args:
        spec: the recipe's source.

    Returns:
        What is published about the data; None where only their files tell.

    Raises:
        UserError: no image size fits the stored images.
    """
    if spec.published is None:
        return None
    manifest = ShardManifest(data_key(spec), spec.description(), {}, {}, spec.published, content="")
    return prepared_data(spec, Path(), manifest)


def with_labels_of(data: PreparedData, spec: ShardedSourceSpec, weights: str) -> PreparedData:
    """Return data whose train split has the labels that a classifier gives: their key has its weights in it.

    Args:
        data: the data with their own labels.
        spec: the recipe's source.
        weights: id of the classifier's weights.
    """
    key = described_key({**described_source(spec, data.manifest.reading), LABELS: weights})
    manifest = replace(data.manifest, source={**data.manifest.source, LABELS: weights})
    return replace(data, manifest=manifest, key=key)


def with_recipe(data: PreparedData, spec: ShardedSourceSpec) -> PreparedData:
    """Return the same samples as another recipe uses them.

    Args:
        data: prepared for a recipe that describes the same samples.
        spec: the other recipe's source.

    Raises:
        UserError: no image size fits the stored images.
    """
    return replace(data, spec=data_spec(data.manifest, spec))
