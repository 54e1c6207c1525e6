"""Arguments of the losses. Torch-free."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from expflow.config.spec import Spec, identity

NotNegative = Annotated[float, Field(ge=0)]


class CrossEntropy(Spec):
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


class NLL(Spec):
    """Negative log-likelihood -q[label] of a network whose outputs q are log-probabilities (a log-softmax)."""

    build: ClassVar[str] = "expflow.losses.cross_entropy:build_nll"

    class_weights: tuple[NotNegative, ...] | None = identity(
        None, description="Factor of each class's part of the loss, in the order of the classes; by default 1."
    )


class Hinge(Spec):
    """Multi-class support vector loss: by how much each wrong score comes within the margin of the right one."""

    build: ClassVar[str] = "expflow.losses.hinge:build"

    margin: float = identity(1.0, description="Delta: how far the right score must lie above every other.", gt=0)


class Squared(Spec):
    """Squared distance of the scores from the one-hot target, summed over classes."""

    build: ClassVar[str] = "expflow.losses.distance:build_squared"


class L1(Spec):
    """Absolute distance of the scores from the one-hot target, summed over classes."""

    build: ClassVar[str] = "expflow.losses.distance:build_l1"


class SmoothL1(Spec):
    """Squared near the one-hot target and absolute beyond ``beta``, summed over classes."""

    build: ClassVar[str] = "expflow.losses.distance:build_smooth_l1"

    beta: float = identity(1.0, description="Distance at which the square becomes a straight line.", gt=0)


class BCE(Spec):
    """Binary cross-entropy: every class is a yes-or-no question of its own, sigmoid instead of softmax."""

    build: ClassVar[str] = "expflow.losses.binary:build"

    label_smoothing: float = identity(0.0, description="Share of each answer that moves to one half.", ge=0, lt=1)
