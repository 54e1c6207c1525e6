"""Changing samples on their way to the model. Importing this package imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from expflow.data.augment.sizes import VARIES, seen_by_model
from expflow.data.dataspec import DataSpec

if TYPE_CHECKING:
    from expflow.data.augment.pipeline import Pipeline

__all__ = ["VARIES", "pipeline_for", "seen_by_model"]


def pipeline_for(
    fields: Mapping[str, str],
    dataspec: DataSpec,
    transform: object,
    *,
    training: bool,
    seed: int,
    geometry: bool = False,
) -> Pipeline:
    """What turns stored samples into those of a batch.

    ``fields`` maps a field to its extension in the shards, ``dataspec`` says how it is stored, ``transform`` is the
    source's spec: its ``train`` and ``eval`` are followed where it has them (``augment.specs.Augmented``). With
    ``training``, what is random derives from (``seed``, epoch, id of the sample) alone. ``geometry`` adds
    the field ``image_geometry``: where in its stored image each sample was seen, and whether it was mirrored. Raises
    UserError where the samples would not fit into one batch.
    """
    from expflow.data.augment.pipeline import Pipeline

    return Pipeline(fields, dataspec, transform, training=training, seed=seed, geometry=geometry)
