"""Arguments of VGG nets. Torch-free: the networks are in ``expflow.architectures.vgg``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from expflow.architectures.specs.convnet import ConvNetSpec
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.spec import FieldError, identity

Positive = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]


class VGGSpec(ConvNetSpec):
    """Stages of 3x3 convolutions that end in pooling (Simonyan and Zisserman 2015), or the net VGG-M."""

    build: ClassVar[str] = "expflow.architectures.vgg:build"

    depth: Literal[11, 13, 16, 19, "M"] | None = identity(
        None,
        description="Layers with weights: 11, 13, 16 or 19 as in the paper; M: VGG-M (Chatfield et al. 2014).",
        former="layers",
    )
    stages: tuple[tuple[Positive, Positive], ...] | None = identity(
        None,
        description="Instead of depth: [n, m] for each stage, n convolutions of m channels; each stage halves the"
        " image.",
        min_length=1,
    )

    @model_validator(mode="after")
    def _has_one_layout(self) -> Self:
        if self.depth is None and self.stages is None:
            raise FieldError("depth", "say depth (11, 13, 16, 19 or M) or stages ([[n, m], …])")
        if self.depth is not None and self.stages is not None:
            raise FieldError("stages", f"depth: {self.depth} has its own stages; say one of the two")
        return self
