"""Arguments of the tasks that look at images through the layers of a trained classifier. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from expflow.config.component_specs import ModelOutput, TaskSpec
from expflow.config.spec import FieldError, identity
from expflow.tasks.generative_specs import label_conflicts, samples_field

IMAGES_DESCRIPTION = (
    "How many images of val are changed, drawn by the trial's seed; each is a parameter, and a step moves all."
)


def layers_field() -> Any:
    """The key ``features`` of tasks that need a classifier."""
    return identity(
        description="The trained classifier through whose layers images are looked at: NAME/best, NAME/3fa9, or"
        " published weights, torchvision/VGG19_Weights.IMAGENET1K_V1.",
        min_length=1,
    )


class ImageParameterSpec(TaskSpec):
    """Base of tasks in which images themselves are learned; no task by itself."""

    slots: ClassVar[frozenset[str]] = frozenset({"data", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})

    features: str = layers_field()
    images: int = identity(8, description=IMAGES_DESCRIPTION, ge=1, le=256)
    begin: Literal["content", "noise"] = identity(
        "content", description="What the images begin as: the images of val, or grey with noise."
    )
    smoothness: float = identity(
        0.0,
        description="How much the mean squared difference of neighbouring pixels counts in what is minimised.",
        ge=0,
    )

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """What a training begins with: there is no network in it."""
        if init is not None:
            yield "init", "says what a network begins with, and here images are learned: see task.begin; remove it"


class StyleSpec(TaskSpec):
    """Base of tasks that give images the style of others; no task by itself."""

    style: str = identity(
        description="Name of the class of the data whose images have the style; images of other classes are changed."
    )
    style_images: int = identity(
        1,
        description="How many of its images in train make the style, the first ones; their Gram matrices are averaged.",
        ge=1,
        le=1024,
    )
    content_layer: str = identity(
        description="Layer of the classifier in whose output an image stays near its content, by its dotted path."
    )
    style_layers: tuple[str, ...] = identity(
        description="Layers of the classifier in whose Gram matrices an image comes near the style.", min_length=1
    )
    content_weight: float = identity(1.0, description="How much the content counts in what is minimised.", ge=0)
    style_weight: float = identity(1.0, description="How much the style counts in what is minimised.", ge=0)
    smoothness: float = identity(
        0.0,
        description="How much the mean squared difference of neighbouring pixels counts in what is minimised.",
        ge=0,
    )

    @model_validator(mode="after")
    def _minimises_something(self) -> Self:
        if not (self.content_weight or self.style_weight):
            raise FieldError("style_weight", "with content_weight 0 as well, nothing of style or content is minimised")
        return self


class StyleTransferSpec(ImageParameterSpec, StyleSpec):
    """Images of val in the style of a class of images (Gatys et al. 2016): the images themselves are the parameters."""

    build: ClassVar[str] = "expflow.tasks.style_transfer:build"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "content_loss", "style_loss")
    main_metric: ClassVar[str] = "val/style_loss"


class FastStyleTransferSpec(StyleSpec):
    """A network that gives images the style of a class of images, in one pass (Johnson et al. 2016)."""

    build: ClassVar[str] = "expflow.tasks.fast_style_transfer:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = ("loss", "content_loss", "style_loss")
    main_metric: ClassVar[str] = "val/style_loss"
    needs: ClassVar[ModelOutput] = "images"

    features: str = layers_field()
    samples: int = samples_field()

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, and a probe's kept features."""
        return label_conflicts(slots, init)


class DeepDreamSpec(ImageParameterSpec):
    """Images of val that excite a class or a layer more and more (Mordvintsev et al. 2015): they are the parameters."""

    build: ClassVar[str] = "expflow.tasks.deep_dream:build"
    metrics: ClassVar[tuple[str, ...]] = ("activation", "loss", "sharpness")
    main_metric: ClassVar[str] = "val/activation"

    of: str = identity(
        description="What is to be excited: a class of the classifier, by its name, or a layer, by its dotted path."
    )
    shift: int = identity(
        0,
        description="Pixels by which images are shifted at most, anew in each step, so that what appears is no grid.",
        ge=0,
    )
