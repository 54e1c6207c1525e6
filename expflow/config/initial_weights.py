"""The key ``init``: which weights a training begins with, and which of them it leaves alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from expflow.config.component_specs import optimizer_spec, task_spec
from expflow.config.spec import FieldError, FrozenModel, Spec, UserComponent, identity

SCRATCH = "scratch"
"""``from`` of weights as they are drawn."""
BACKBONE = "backbone"
"""Stands for the whole network but its head."""
NOTHING = "none"
"""``freeze`` of a network that is trained as a whole."""
SEEDED = re.compile(r"(?P<best>(?:\w+://.+/)?[^/]+/best)@(?P<seed>seed|[0-9]+)")
"""``from`` of weights of one seed: ``NAME/best@seed`` is that of the trial which asks, ``NAME/best@3`` seed 3. A
store's address may stand before it."""

PARENT_KEY = "init.parent"
"""What a searcher that lets children inherit adds to the searched values of a child."""

Scale = Annotated[float, Field(gt=0)]


class Init(FrozenModel):
    """What a training begins with: the weights of another one, all of them or all but the head's."""

    source: str = identity(
        SCRATCH,
        alias="from",
        description="Whose weights: NAME/best or NAME/3fa9 (a trial; s3://bucket/path/NAME/best in a store),"
        " NAME/best@seed (the best config's trial with the same seed: each seed its own pretraining), the path of a"
        " file of weights or of a checkpoint, torchvision/<name of published weights>, or scratch for weights as they"
        " are drawn.",
        min_length=1,
    )
    head: Literal["new", "keep"] = identity(
        "new", description="The last layer: drawn anew, for other classes, or taken over with the rest."
    )
    freeze: str | tuple[str, ...] = identity(
        (),
        description="Modules that are not trained, by dotted path as `expflow models` prints them ([stem, layer1]);"
        " `backbone` is all but the head, `none` nothing. Their norms and dropout stay in eval mode.",
    )
    unfreeze_after: int | None = identity(
        None,
        description="Epochs after which frozen modules are trained, too: feature extraction first, fine-tuning after.",
        ge=1,
    )
    lr_scale: Mapping[str, Scale] = identity(
        default_factory=dict,
        description="Factors of the learning rate for parts of the network ({backbone: 0.1, layer4: 0.5}); the longest"
        " path that fits counts.",
    )
    probe: bool = identity(
        False,
        description="Train the head alone, on features that the rest gives once for each image and that are kept: a"
        " linear probe. Needs freeze: backbone, and training images that are not augmented.",
    )

    parent: str = identity(
        "",
        description="Filled in by a searcher that lets children inherit: the config whose weights, those of the same"
        " seed, are taken over where names and shapes fit.",
    )

    @property
    def frozen(self) -> tuple[str, ...]:
        """``freeze`` as paths."""
        return (self.freeze,) if isinstance(self.freeze, str) else self.freeze

    @property
    def pretrained(self) -> bool:
        """Whether weights are taken over."""
        return self.source != SCRATCH

    @field_validator("freeze", mode="after")
    @classmethod
    def _paths(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        """One way to write it, so that one choice is one config."""
        listed = (value,) if isinstance(value, str) else value
        return tuple(sorted({path for path in listed if path != NOTHING}))

    @field_validator("lr_scale", mode="after")
    @classmethod
    def _factors(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        return {} if all(factor == 1 for factor in value.values()) else dict(value)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.unfreeze_after is not None and not self.freeze:
            raise FieldError("unfreeze_after", "nothing is frozen; say what with freeze, freeze: backbone for example")
        if self.probe and self.freeze != (BACKBONE,):
            raise FieldError("probe", "a linear probe trains the head alone; add freeze: backbone")
        if self.probe and self.unfreeze_after is not None:
            raise FieldError("unfreeze_after", "the features of a probe are kept, so nothing behind them can change")
        if self.probe and self.lr_scale:
            raise FieldError("lr_scale", "a linear probe trains the head alone, at optimizer.lr")
        return self


def source_of_seed(source: str, seed: int) -> str:
    """Whose weights a trial begins with: ``NAME/best@seed`` with the number of its seed, anything else as it is.

    Args:
        source: ``init.from``.
        seed: The trial's seed.
    """
    return f"{source.removesuffix('seed')}{seed}" if SEEDED.fullmatch(source) and source.endswith("@seed") else source


def init_conflicts(init: Init, slots: Mapping[str, Any], epochs: int) -> Iterator[tuple[str, str]]:
    """What of ``init`` does not go with the rest of the recipe.

    Args:
        init: What the file says.
        slots: Slot to what it holds.
        epochs: The trainer's epochs.

    Yields:
        Field of ``init`` ("" for all of it) and message.
    """
    task = slots.get("task")
    if not isinstance(task, UserComponent) and "model" not in task_spec(task).slots:
        yield "", f"the task {task.name if isinstance(task, Spec) else ''} has no network; remove this"
    for slot in ("model", "optimizer"):
        if isinstance(slots.get(slot), Mapping):
            yield "", f"begins one network with one optimizer, and this recipe has several in its slot {slot}"
    if init.unfreeze_after is not None and init.unfreeze_after >= epochs:
        message = f"the trial ends after {epochs} epochs (trainer.epochs), so nothing would be unfrozen; leave it out"
        yield "unfreeze_after", message
    if init.lr_scale and optimizer_spec(slots.get("optimizer")).module_rates:
        yield "lr_scale", "the optimizer has an lr_scale as well; give one of the two"
    if init.lr_scale and isinstance(slots.get("optimizer"), UserComponent):
        yield (
            "lr_scale",
            "your own optimizer is handed its parameters without their names; it cannot have rates of parts",
        )
    if init.probe and isinstance(task, UserComponent):
        yield "probe", "your own task reads images; only tasks of expflow train on kept features. Use freeze: backbone"
    if init.probe and isinstance(slots.get("data"), UserComponent):
        yield "probe", "features are kept of prepared shards, not of your own data module. Use freeze: backbone alone"
