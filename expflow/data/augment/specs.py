"""How samples are changed on their way to the model: the keys ``image_size``, ``train`` and ``eval`` of a source.

The order of operations is fixed, whatever the order of the keys: random resized crop (or the resize and crop of
``eval``), pad and crop, flip, RandAugment, colour jitter, random erasing; then, on the device and over whole batches,
MixUp or CutMix. Nothing here has a part in the prepared shards. Torch-free.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from expflow.config.component_specs import SourceSpec
from expflow.config.spec import FieldError, FrozenModel, identity

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


def _ascending(values: tuple[float, float], field: str) -> None:
    if values[0] > values[1]:
        raise FieldError(field, f"expected the smaller number first, found [{values[0]:g}, {values[1]:g}]")


class RandomResizedCrop(FrozenModel):
    """A part of the image of random size, shape and place, resized: Szegedy et al. 2015, section 6."""

    scale: tuple[Share, Share] = identity((0.08, 1.0), description="Smallest and largest share of the image's area.")
    ratio: tuple[Positive, Positive] = identity(
        (3 / 4, 4 / 3), description="Smallest and largest width for a height of 1, before resizing."
    )
    size: int | None = identity(None, description="Height and width it gives; by default what the model sees.", ge=1)
    probability: float = identity(
        1.0, description="Share of samples it is done to; the others are resized and cropped as in eval.", ge=0, le=1
    )

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        _ascending(self.scale, "scale")
        _ascending(self.ratio, "ratio")
        return self


class RandAugment(FrozenModel):
    """Several operations drawn from one list, all of one strength: Cubuk et al. 2019."""

    operations: int = identity(2, description="Operations a sample goes through, one after the other.", ge=1, le=14)
    magnitude: int = identity(9, description="Their strength, of 0 to 30.", ge=0, le=30)


class ColorJitter(FrozenModel):
    """Random changes of brightness, contrast, saturation and hue, in that order."""

    brightness: float = identity(0.0, description="Factor drawn between 1 - this (0 at least) and 1 + this.", ge=0)
    contrast: float = identity(0.0, description="Factor drawn between 1 - this (0 at least) and 1 + this.", ge=0)
    saturation: float = identity(0.0, description="Factor drawn between 1 - this (0 at least) and 1 + this.", ge=0)
    hue: float = identity(
        0.0, description="Shift drawn between minus and plus this, in turns of the colour circle.", ge=0, le=0.5
    )


class TrainTransform(FrozenModel):
    """How training samples are changed, in the order of these keys. Without any of them, as eval says."""

    random_resized_crop: RandomResizedCrop | None = identity(
        None, description="A random part of the image, resized; {} takes its usual ranges."
    )
    pad_and_crop: int = identity(
        0, description="Pixels of black added to every side before a crop of the old size is drawn; 0: none.", ge=0
    )
    flip: float = identity(0.0, description="Share of samples that are mirrored left to right.", ge=0, le=1)
    min_visible: float = identity(
        0.1,
        description="Boxes of which a crop leaves a smaller share are dropped with their labels; those of which less"
        " than a pixel is left in height or width always are.",
        ge=0,
        le=1,
    )
    rand_augment: RandAugment | None = identity(None, description="RandAugment; {} takes 2 operations of magnitude 9.")
    color_jitter: ColorJitter | None = identity(None, description="Random changes of the colours.")
    random_erasing: float = identity(
        0.0,
        description="Share of samples of which a rectangle (2 to 33 % of the area) becomes the data's mean colour.",
        ge=0,
        le=1,
    )
    mixup: float = identity(
        0.0, description="Alpha of MixUp: share of each mix drawn from Beta(alpha, alpha); 0: none.", ge=0
    )
    cutmix: float = identity(
        0.0, description="Alpha of CutMix; beside mixup, each batch takes one of the two by a fair draw; 0: none.", ge=0
    )


class EvalTransform(FrozenModel):
    """How validation and test samples are changed, and training samples without a random resized crop."""

    resize: int | None = identity(
        None,
        description="What the shorter side is resized to; by default center_crop, and 8/7 of it (256 for 224) where"
        " the stored images differ in size.",
        ge=1,
    )
    center_crop: int | None = identity(
        None, description="Height and width of the middle that is kept; by default image_size.", ge=1
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.resize is not None and self.center_crop is not None and self.center_crop > self.resize:
            message = f"is larger than the image, whose shorter side was resized to {self.resize}"
            raise FieldError("center_crop", f"{self.center_crop} {message}")
        return self


class AugmentedSourceSpec(SourceSpec):
    """The keys of a source that say how its samples are changed when they are read."""

    at_use: ClassVar[frozenset[str]] = frozenset({"image_size", "letterbox", "train", "eval"})
    """Fields that no shard, and so no data key, depends on."""

    image_size: int | None = identity(
        None,
        description="Height and width of the images that the model sees; by default as they are stored.",
        ge=1,
        le=65_536,
    )
    letterbox: bool = identity(
        False,
        description="Whether whole images are resized until their longer side is image_size and padded to a square,"
        " with black in images and void in masks, instead of cut to one; a random_resized_crop still cuts.",
    )
    train: TrainTransform = identity(
        default_factory=TrainTransform, description="What is done to training samples, each time anew."
    )
    eval: EvalTransform = identity(
        default_factory=EvalTransform, description="What is done to validation and test samples."
    )

    @model_validator(mode="after")
    def _letterboxed(self) -> Self:
        if self.letterbox and self.image_size is None:
            raise FieldError("letterbox", "needs image_size, the height and width of the square that images fill")
        if self.letterbox and (self.eval.resize is not None or self.eval.center_crop is not None):
            raise FieldError("letterbox", "shows images whole; leave out eval.resize and eval.center_crop")
        return self


class PhotographTrainTransform(TrainTransform):
    """The usual for photographs: a random resized crop, and a flip every other time."""

    random_resized_crop: RandomResizedCrop | None = identity(
        default_factory=RandomResizedCrop,
        description="A random part of the image, resized; {probability: 0} does without.",
    )
    flip: float = identity(0.5, description="Share of samples that are mirrored left to right.", ge=0, le=1)


class PhotographSourceSpec(AugmentedSourceSpec):
    """:class:`AugmentedSourceSpec` with the usual recipe of ImageNet: 224 pixels, random resized crop and flip."""

    image_size: int | None = identity(
        224,
        description="Height and width of the images that the model sees; null: as they are stored.",
        ge=1,
        le=65_536,
    )
    train: PhotographTrainTransform = identity(
        default_factory=PhotographTrainTransform, description="What is done to training samples, each time anew."
    )
