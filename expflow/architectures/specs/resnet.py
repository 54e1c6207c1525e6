"""Arguments of residual networks. Torch-free: the networks are in ``expflow.architectures.resnet``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from expflow.config.spec import FieldError, Spec, identity


def nearest_cifar_depths(depth: int) -> tuple[int, ...]:
    """The legal depths 6n + 2 (n >= 1) on either side of ``depth``; one alone where there is none below."""
    below = (depth - 2) // 6 * 6 + 2
    return tuple(each for each in (below, below + 6) if each >= 8) or (8,)


class ResNet(Spec):
    """Residual network, and its plain counterpart (He et al. 2016, "Deep Residual Learning", arXiv 1512.03385)."""

    build: ClassVar[str] = "expflow.architectures.resnet:build"

    layout: Literal["cifar"] = identity(
        "cifar", description="Stem and stages; cifar: three stages for small images (section 4.2 of the paper)."
    )
    depth: int = identity(description="Layers with weights; 6n + 2 in the cifar layout.", ge=1)
    width: int = identity(16, description="Channels of the first stage; each later stage doubles them.", ge=1)
    shortcut: Literal["none", "pad", "projection"] = identity(
        "pad",
        description="Around each block: none (plain net), identity with zero-padded channels where shapes change"
        " (option A), or a 1x1 convolution there (option B).",
    )
    zero_init: bool = identity(
        False,
        description="Each block with a shortcut begins as its shortcut alone: the scale of its last batch norm starts"
        " at 0 (Goyal et al. 2017, section 5.1). Makes deep nets train reliably; the ResNet paper does without.",
    )

    @model_validator(mode="after")
    def _depth_fits_layout(self) -> Self:
        if self.layout == "cifar" and (self.depth < 8 or (self.depth - 2) % 6):
            legal = " and ".join(map(str, nearest_cifar_depths(self.depth)))
            raise FieldError("depth", f"depth {self.depth} is not 6n+2, as the cifar layout needs; nearest: {legal}")
        return self
