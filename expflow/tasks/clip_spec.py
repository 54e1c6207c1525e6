"""Arguments of the task clip. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from expflow.config.component_specs import ModelOutput
from expflow.tasks.generative_specs import label_conflicts, samples_field
from expflow.tasks.specs import PenalisedTaskSpec

RECALLS = (1, 5, 10)
"""K of the recalls at K."""


class CLIPTaskSpec(PenalisedTaskSpec):
    """Which text belongs to which image, among all of a batch: recalls at 1, 5 and 10 and median rank, both ways.

    `r1` and so on are of images that look for their text among all of the split; `text_r1` and so on of texts that look
    for their image.
    """

    build: ClassVar[str] = "expflow.tasks.clip:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = (
        "loss",
        *(f"r{k}" for k in RECALLS),
        "medr",
        *(f"text_r{k}" for k in RECALLS),
        "text_medr",
    )
    main_metric: ClassVar[str] = "val/r1"
    needs: ClassVar[ModelOutput] = "embeddings"

    samples: int = samples_field()

    def trainer_conflicts(self) -> Mapping[str, str]:
        """Accumulated batches."""
        why = (
            "the loss compares the pairs of a batch with each other, so several small batches make another loss than"
            " one large one; remove it, and raise the data's batch_size"
        )
        return {"accumulate": why}

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, a probe's kept features, and a last batch in which there are fewer pairs to compare."""
        yield from label_conflicts(slots, init)
        last = getattr(slots.get("data"), "last", "drop")
        if last != "drop":
            yield (
                "data.last",
                f"{last} lets an epoch end with a batch of fewer pairs, whose loss is another one; write last: drop",
            )
