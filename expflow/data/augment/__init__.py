"""Changing samples on their way to the model. Importing this package imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from expflow.data.augment.sizes import VARIES, seen_by_model
from expflow.data.dataspec import DataSpec

if TYPE_CHECKING:
    from expflow.data.augment.pipeline import AugmentationPipeline

__all__ = ["VARIES", "pipeline_for", "seen_by_model"]


def pipeline_for(
    fields: Mapping[str, str], dataspec: DataSpec, transform: object, *, training: bool, seed: int
) -> AugmentationPipeline:
    """What turns stored samples into those of a batch.

    Args:
        fields: The extension of each field in the shards.
        dataspec: How the fields are stored.
        transform: The source's spec; its ``train`` and ``eval`` are followed where it has them
            (:class:`expflow.data.augment.specs.AugmentedSourceSpec`).
        training: Whether ``train`` rather than ``eval`` is followed.
        seed: What is random derives from it, the epoch and the sample's id alone.

    Raises:
        UserError: The samples would not fit into one batch.
    """
    from expflow.data.augment.pipeline import AugmentationPipeline

    return AugmentationPipeline(fields, dataspec, transform, training=training, seed=seed)
