"""Arguments of fully convolutional networks. Torch-free: the network is in ``expflow.architectures.fcn``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from expflow.architectures.specs.vgg import VGGSpec
from expflow.config.component_specs import ModelOutput
from expflow.config.spec import FieldError, identity


class FCNSpec(VGGSpec):
    """A VGG net whose fully connected layers are convolutions, and whose scores are upsampled (Long et al. 2015).

    It has five stages (depth 11 to 19), or as many as stages lists.
    """

    build: ClassVar[str] = "expflow.architectures.fcn:build"
    gives: ClassVar[ModelOutput] = "maps"

    depth: Literal[11, 13, 16, 19] | None = identity(
        None, description="Layers with weights of the VGG net: 11, 13, 16 (as in the paper) or 19."
    )
    skips: Literal[0, 1, 2] = identity(
        2,
        description="Stages before the last one whose scores are added on the way up: of five stages 0 makes FCN-32s, 1"
        " FCN-16s, 2 FCN-8s.",
    )
    kernel: int = identity(
        7, description="Height and width of the first layer behind the stages, an odd number.", ge=1, le=31
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kernel % 2 == 0:
            raise FieldError("kernel", f"expected an odd number, found {self.kernel}")
        if self.stages is not None and len(self.stages) <= self.skips:
            raise FieldError("skips", f"{len(self.stages)} stages have {len(self.stages) - 1} before the last one")
        return self
