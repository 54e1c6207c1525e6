"""Arguments of the losses. Torch-free."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from expflow.config.spec import Spec, identity

NotNegative = Annotated[float, Field(ge=0)]


class CrossEntropySpec(Spec):
    """Cross-entropy of the softmax over class scores: -log p(label)."""

    build: ClassVar[str] = "expflow.losses.cross_entropy:build"

    label_smoothing: float = identity(
        0.0,
        description="Share of the target that is spread evenly over all classes.",
        ge=0,
        lt=1,
    )
    class_weights: tuple[NotNegative, ...] | None = identity(
        None, description="Factor of each class's part of the loss, in the order of the classes; by default 1."
    )


class NLLSpec(Spec):
    """Negative log-likelihood -q[label] of a network whose outputs q are log-probabilities (a log-softmax)."""

    build: ClassVar[str] = "expflow.losses.cross_entropy:build_nll"

    class_weights: tuple[NotNegative, ...] | None = identity(
        None, description="Factor of each class's part of the loss, in the order of the classes; by default 1."
    )


class HingeSpec(Spec):
    """Multi-class support vector loss: by how much each wrong score comes within the margin of the right one."""

    build: ClassVar[str] = "expflow.losses.hinge:build"

    margin: float = identity(1.0, description="Delta: how far the right score must lie above every other.", gt=0)


class SquaredSpec(Spec):
    """Squared distance of the scores from the one-hot target, summed over classes."""

    build: ClassVar[str] = "expflow.losses.distance:build_squared"


class L1Spec(Spec):
    """Absolute distance of the scores from the one-hot target, summed over classes."""

    build: ClassVar[str] = "expflow.losses.distance:build_l1"


class SmoothL1Spec(Spec):
    """Squared near the one-hot target and absolute beyond ``beta``, summed over classes."""

    build: ClassVar[str] = "expflow.losses.distance:build_smooth_l1"

    beta: float = identity(1.0, description="Distance at which the square becomes a straight line.", gt=0)


class BCESpec(Spec):
    """Binary cross-entropy: every class is a yes-or-no question of its own, sigmoid instead of softmax."""

    build: ClassVar[str] = "expflow.losses.binary:build"

    label_smoothing: float = identity(0.0, description="Share of each answer that moves to one half.", ge=0, lt=1)


class FocalSpec(Spec):
    """Cross-entropy in which what is right already counts less: -(1 - p)^gamma log p of the label's probability p."""

    build: ClassVar[str] = "expflow.losses.focal:build"

    gamma: float = identity(2.0, description="How much less; 0 is the cross-entropy.", ge=0)
    class_weights: tuple[NotNegative, ...] | None = identity(
        None, description="Factor of each class's part of the loss, in the order of the classes; by default 1."
    )


class DiceSpec(Spec):
    """1 - Dice coefficient of each class's area in an image, averaged over classes: for segmentation.

    A sum with other losses is asked for by their weights.
    """

    build: ClassVar[str] = "expflow.losses.dice:build"

    smooth: float = identity(1.0, description="Pixels added to both sides of the fraction, so that none is 0/0.", gt=0)
    cross_entropy: float = identity(
        0.0, description="Weight of the cross-entropy that is added, the mean over the image's pixels.", ge=0
    )
    focal: float = identity(
        0.0, description="Weight of the focal loss (gamma 2) that is added, the mean over the image's pixels.", ge=0
    )
