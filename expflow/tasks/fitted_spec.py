"""What the arguments of tasks that are fitted once have in common. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from expflow.config.component_specs import FITTING_RUNNER, TaskSpec
from expflow.config.spec import UserComponent

OF_STEPS = (
    "accumulate",
    "callbacks",
    "clip_norm",
    "clip_value",
    "compile",
    "early_stopping",
    "ema",
    "image_sizes",
    "sync_batchnorm",
)
"""Keys of the trainer that mean nothing where no network takes steps."""


class FittedSpec(TaskSpec):
    """Base of tasks that name the class of an image and are fitted once; no task by itself.

    Images are taken as they are evaluated: without crops, flips and colours drawn at random.
    """

    runner: ClassVar[str] = FITTING_RUNNER
    metrics: ClassVar[tuple[str, ...]] = ("loss", "top1", "top5")
    main_metric: ClassVar[str] = "val/top1"
    learns_classes: ClassVar[bool] = True

    def trainer_conflicts(self) -> Mapping[str, str]:
        """All that is about steps."""
        return dict.fromkeys(OF_STEPS, f"changes nothing: {self.name} is fitted once, without steps")

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """Loaders of the user's, and random changes of training images."""
        data = slots.get("data")
        if isinstance(data, UserComponent):
            yield "data", f"{self.name} is fitted to prepared shards, and your own data module has loaders of its own"
        train = getattr(data, "train", None)
        if train is None:
            return
        usual = type(train)()
        for key in type(train).model_fields:
            if getattr(train, key) != getattr(usual, key):
                why = f"changes nothing: {self.name} is fitted once, to images as they are evaluated"
                yield f"data.train.{key}", why
