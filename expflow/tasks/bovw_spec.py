"""Arguments of the task bovw. Torch-free."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from expflow.config.spec import FieldError, identity
from expflow.tasks.fitted_spec import FittedSpec

MOST_FEATURES = 500_000
"""Numbers that describe an image, at most: the classifier has one weight for each of them and each class."""


class BovwSpec(FittedSpec):
    """The bag of visual words: local descriptors, a vocabulary of them, a pyramid of histograms, and a linear SVM.

    It is fitted once, in one pass over the training images for the vocabulary and one for the classifier, whatever
    trainer.epochs says. Images are taken as they are evaluated: without crops, flips and colours drawn at random.
    """

    build: ClassVar[str] = "expflow.tasks.bovw:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data"})

    descriptor: Literal["dense", "sift", "hog", "colour"] = identity(
        "dense",
        description="What describes a patch: its pixels, without their mean and at length 1 (dense); SIFT (OpenCV) or"
        " HOG (scikit-image) of its grey values; or a histogram of each of its colours.",
    )
    points: Literal["grid", "detected"] = identity(
        "grid", description="Where SIFT is taken: at the points of a grid, or at those that SIFT detects."
    )
    patch: int = identity(8, description="Height and width of a patch in pixels.", ge=2, le=512)
    stride: int = identity(
        4, description="Pixels between patches. Those of hog overlap by half, whatever stands here.", ge=1, le=512
    )
    bins: int = identity(8, description="Bins of a colour's histogram.", ge=2, le=256)
    words: int = identity(128, description="Size of the vocabulary.", ge=2, le=65_536)
    encoding: Literal["histogram", "fisher"] = identity(
        "histogram",
        description="What is counted of a descriptor: its nearest word of k-means (histogram); or how it lies to each"
        " component of a mixture of Gaussians, in mean and variance (fisher).",
    )
    pyramid: int = identity(
        0,
        description="Levels of the spatial pyramid above the whole image: level l has 4^l cells with a histogram each.",
        ge=0,
        le=5,
    )
    power: float = identity(
        0.5,
        description="Power that each number is raised to, with its sign, before the whole vector gets length 1; 0.5 is"
        " the Hellinger kernel, 1 changes nothing.",
        gt=0,
        le=1,
    )
    cost: float = identity(1.0, description="C of the linear SVM: the weight of what is misjudged.", gt=0)
    sampled: int = identity(
        20_000,
        description="Descriptors that the vocabulary is made of, drawn from all training images by the seed.",
        ge=2,
        le=10_000_000,
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.points == "detected" and self.descriptor != "sift":
            raise FieldError("points", f"only sift detects points, and the descriptor is {self.descriptor}")
        if self.descriptor == "hog" and self.patch % 2:
            raise FieldError("patch", f"hog has 2x2 cells, so an even number of pixels; found {self.patch}")
        if self.words > self.sampled:
            raise FieldError("words", f"{self.words} words cannot be made of {self.sampled} descriptors (sampled)")
        return self
