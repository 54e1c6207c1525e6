"""Arguments of the losses. Torch-free."""

from __future__ import annotations

from typing import ClassVar

from expflow.config.spec import Spec, identity


class CrossEntropy(Spec):
    """Cross-entropy of the softmax over class scores: -log p(label)."""

    build: ClassVar[str] = "expflow.losses.cross_entropy:build"

    label_smoothing: float = identity(
        0.0,
        description="Share of the target that is spread evenly over all classes.",
        ge=0,
        lt=1,
    )
