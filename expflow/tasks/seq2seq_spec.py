"""Arguments of the task seq2seq. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from expflow.config.component_specs import ModelOutput
from expflow.config.spec import Spec, UserComponent, identity
from expflow.tasks.generative_specs import label_conflicts, samples_field
from expflow.tasks.specs import PenalisedTaskSpec


class Seq2SeqSpec(PenalisedTaskSpec):
    """One text from another: loss and accuracy of tokens; accuracy of whole texts that the network writes, and BLEU."""

    build: ClassVar[str] = "expflow.tasks.seq2seq:build"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "token_accuracy", "sequence_accuracy", "bleu")
    main_metric: ClassVar[str] = "val/sequence_accuracy"
    needs: ClassVar[ModelOutput] = "tokens"

    beams: int = identity(1, description="Beginnings that are kept while a text is written; 1: greedy.", ge=1, le=64)
    samples: int = samples_field()

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """What changes images, a probe's kept features, and losses that are none of classes."""
        yield from label_conflicts({}, init)
        data = slots.get("data")
        for key, plain in (("image_size", None), ("letterbox", False), ("palette", 0)):
            if getattr(data, key, plain) != plain:
                yield f"data.{key}", "is about images, and these data are texts; remove it"
        train = getattr(data, "train", None)
        for key, field in type(train).model_fields.items() if isinstance(train, BaseModel) else ():
            if getattr(train, key) != field.get_default(call_default_factory=True):
                yield f"data.train.{key}", "changes images, and these data are texts; remove it"
        loss = slots.get("loss")
        if isinstance(loss, Spec) and not isinstance(loss, UserComponent) and loss.name != "cross_entropy":
            yield "loss", f"{loss.name} gives no value for each token here; use cross_entropy"
