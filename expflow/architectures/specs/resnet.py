"""Arguments of residual networks. Torch-free: the networks are in ``expflow.architectures.resnet``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from expflow.architectures.specs.blocks import Activation, Init, Norm
from expflow.architectures.specs.layouts import read_listed
from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import FieldError, FrozenModel, identity

IMAGENET = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Blocks of the four stages by depth: table 1 of the paper; 200 is from He et al. 2016b."""

FIRST_BOTTLENECK = 50
"""The smallest ImageNet depth that is made of bottleneck blocks."""

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Channels that leave a block, in units of its stage's width."""


class ResNetStage(FrozenModel):
    """A stage of your own: blocks on maps of one size."""

    blocks: int = identity(description="Number of blocks.", ge=1, le=MAX_LAYERS)
    width: int | None = identity(
        None, description="Channels; by default twice those of the stage before.", ge=1, le=MAX_CHANNELS
    )
    stride: int | None = identity(
        None, description="Stride of the first block; by default 1, and 2 later.", ge=1, le=MAX_CHANNELS
    )


Layout = (
    Literal["cifar", "imagenet"] | Annotated[tuple[Annotated[int, Field(ge=1)] | ResNetStage, ...], Field(min_length=1)]
)


@dataclass(frozen=True)
class ResolvedStage:
    """A stage with all of its numbers.

    Attributes:
        blocks: Number of blocks.
        stride: Stride of the first block.
        inner: Channels of the 3x3 convolutions.
        channels: Channels that leave each block.
    """

    blocks: int
    stride: int
    inner: int
    channels: int


class ResNetSpec(ModelSpec):
    """Residual network, and its plain counterpart (He et al. 2016, "Deep Residual Learning", arXiv 1512.03385).

    With pre-activation (He et al. 2016b, "Identity Mappings in Deep Residual Networks", arXiv 1603.05027), as ResNeXt
    (Xie et al. 2017, arXiv 1611.05431), Wide ResNet (Zagoruyko and Komodakis 2016, arXiv 1605.07146) and SE-ResNet
    (Hu et al. 2018, arXiv 1709.01507) as well.
    """

    build: ClassVar[str] = "expflow.architectures.resnet:build"

    layout: Layout = identity(
        "cifar",
        description="Stages; cifar: three for small images (section 4.2 of the paper); imagenet: four (table 1); or a"
        " list of your own: the number of blocks of each stage, or {blocks, width, stride}.",
    )
    depth: int | None = identity(
        None,
        description="Layers with weights; 6n + 2 in the cifar layout (9n + 2 with bottleneck blocks); 18, 34, 50, 101,"
        " 152 or 200 in the imagenet layout; left out where the layout is a list.",
        ge=1,
        le=MAX_LAYERS,
    )
    block: Literal["basic", "bottleneck"] = identity(
        None,
        description="basic: two 3x3 convolutions; bottleneck: 1x1, 3x3 and 1x1, four times as many channels leave it."
        " By default bottleneck from ImageNet depth 50 on, else basic.",
        validate_default=True,
    )
    width: int = identity(
        None,
        description="Channels of the stem and width of the first stage; each later stage doubles it. By default 16 in"
        " the cifar layout, else 64.",
        validate_default=True,
        ge=1,
        le=MAX_CHANNELS,
    )
    shortcut: Literal["none", "pad", "projection"] = identity(
        None,
        description="Around each block: none (plain net), identity with zero-padded channels where shapes change"
        " (option A), or a 1x1 convolution there (option B). By default pad in the cifar layout, else projection.",
        validate_default=True,
    )
    stem: Literal["imagenet", "cifar", "deep"] = identity(
        None,
        description="imagenet: 7x7 convolution of stride 2 and max pooling; deep: three 3x3 instead of the 7x7 (He et"
        " al. 2019, arXiv 1812.01187, ResNet-C); cifar: one 3x3 at full size. By default imagenet in its layout, else"
        " cifar.",
        validate_default=True,
    )
    zero_init: bool = identity(
        False,
        description="Each block with a shortcut begins as its shortcut alone: the scale of its last norm (with"
        " pre-activation, its last convolution) starts at 0 (Goyal et al. 2017, section 5.1). Makes deep nets train"
        " reliably; the ResNet paper does without.",
    )
    preactivation: bool = identity(
        False, description="Norm and activation come before each convolution, none after the sum (He et al. 2016b)."
    )
    stride_in: Literal["1x1", "3x3"] = identity(
        "3x3", description="Which convolution of a bottleneck has the stride: 1x1 as in the paper (v1), or 3x3 (v1.5)."
    )
    groups: int = identity(
        1, description="Groups of the 3x3 convolution of a bottleneck (ResNeXt's cardinality).", ge=1, le=MAX_CHANNELS
    )
    group_width: int | None = identity(
        None,
        description="Channels of each group in a stage of the first stage's width, others in proportion (32 groups of"
        " 4 are ResNeXt 32x4d); by default the stage's width is shared among the groups.",
        ge=1,
        le=MAX_CHANNELS,
    )
    width_factor: int = identity(
        1,
        description="Times as many channels in the 3x3 convolutions (Wide ResNet's k); a bottleneck's ends stay.",
        ge=1,
        le=MAX_CHANNELS,
    )
    se_ratio: int = identity(
        0,
        description="Squeeze-and-excitation: how many times fewer channels it squeezes to (paper: 16); 0: none.",
        ge=0,
        le=MAX_CHANNELS,
    )
    activation: Activation = identity("relu", description="Non-linearity.")
    norm: Norm = identity("batch", description="Normalisation beside each convolution; with none those have biases.")
    init: Init = identity("he_fan_out", description="How weights of convolutions are drawn.")
    dropout: float = identity(
        0.0, description="Dropout before each block's last convolution (Wide ResNet, section 2.4).", ge=0, lt=1
    )
    stochastic_depth: float = identity(
        0.0,
        description="Probability that training leaves out the last block of a sample; it rises linearly from the first"
        " block on (Huang et al. 2016, arXiv 1603.09382).",
        ge=0,
        lt=1,
    )

    @field_validator("layout", mode="before")
    @classmethod
    def _read_stages(cls, value: Any) -> Any:
        return read_listed(value, "the blocks of a stage", ResNetStage)

    @field_validator("block", "width", "shortcut", "stem", mode="before")
    @classmethod
    def _fill_in(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.derived_defaults(info.data)[str(info.field_name)] if value is None else value

    @classmethod
    def derived_defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults that depend on the layout and the depth."""
        layout, depth = given.get("layout", "cifar"), given.get("depth")
        deep = layout == "imagenet" and isinstance(depth, int) and depth >= FIRST_BOTTLENECK
        return {
            "block": "bottleneck" if deep else "basic",
            "width": 16 if layout == "cifar" else 64,
            "shortcut": "pad" if layout == "cifar" else "projection",
            "stem": "imagenet" if layout == "imagenet" else "cifar",
        }

    @property
    def stages(self) -> tuple[ResolvedStage, ...]:
        """The stages with all of their numbers."""
        stages = []
        width = self.width
        for index, (blocks, own_width, own_stride) in enumerate(self._listed()):
            width = own_width or (2 * width if index else width)
            channels = width * EXPANSION[self.block] * (self.width_factor if self.block == "basic" else 1)
            stages.append(ResolvedStage(blocks, own_stride or (2 if index else 1), self._inner(width), channels))
        return tuple(stages)

    def _listed(self) -> list[tuple[int, int | None, int | None]]:
        if isinstance(self.layout, tuple):
            stages = [ResNetStage(blocks=item) if isinstance(item, int) else item for item in self.layout]
            return [(stage.blocks, stage.width, stage.stride) for stage in stages]
        depth = self.depth or 0
        named = IMAGENET[depth] if self.layout == "imagenet" else 3 * ((depth - 2) // self._cifar_step,)
        return [(blocks, None, None) for blocks in named]

    def _inner(self, width: int) -> int:
        """Channels of the 3x3 convolutions in a stage of ``width``."""
        if self.group_width is None:
            return width * self.width_factor
        return max(1, self.group_width * self.width_factor * width // self.width) * self.groups

    @property
    def _cifar_step(self) -> int:
        """Layers that one more block in each of three stages adds."""
        return 6 if self.block == "basic" else 9

    @model_validator(mode="after")
    def _depth_fits_layout(self) -> Self:
        depth, block = self.depth, self.block
        if isinstance(self.layout, tuple):
            if depth is not None:
                raise FieldError("depth", f"depth {depth} beside a list of stages, which says it already; leave it out")
        elif depth is None:
            meaning = str(type(self).model_fields["depth"].description)
            raise FieldError("depth", f"missing; expected {meaning[0].lower()}{meaning[1:].rstrip('.')}")
        elif self.layout == "cifar":
            step = self._cifar_step
            if depth < step + 2 or (depth - 2) % step:
                legal = nearest_legal(depth, range(step + 2, depth + step + 2, step)) or str(step + 2)
                blocks = "" if block == "basic" else " with bottleneck blocks"
                needs = f"as the cifar layout{blocks} needs"
                raise FieldError("depth", f"depth {depth} is not {step}n+2, {needs}; nearest: {legal}")
        else:
            legal_depths = [known for known in IMAGENET if (known >= FIRST_BOTTLENECK) == (block == "bottleneck")]
            if depth not in legal_depths:
                every = IMAGENET if depth not in IMAGENET else legal_depths  # a wrong depth, or the wrong block for it
                blocks = "" if depth not in IMAGENET else f" with {block} blocks"
                raise FieldError(
                    "depth",
                    f"depth {depth} is none of the imagenet layout's{blocks}: {', '.join(map(str, every))};"
                    f" nearest: {nearest_legal(depth, every)}",
                )
        return self

    @model_validator(mode="after")
    def _bottleneck_arguments_have_a_bottleneck(self) -> Self:
        if self.block == "basic":
            usual_values = {"groups": 1, "group_width": None, "stride_in": "3x3"}
            for field, value in usual_values.items():
                if getattr(self, field) != value:
                    raise FieldError(
                        field,
                        f"{field} is about bottleneck blocks, these are basic; leave it out, or block: bottleneck",
                    )
        return self

    @model_validator(mode="after")
    def _channels_fit(self) -> Self:
        stages = self.stages
        common = math.gcd(*(stage.inner for stage in stages))
        if common % self.groups:
            raise FieldError(
                "groups",
                f"{self.groups} groups do not divide the {', '.join(str(stage.inner) for stage in stages)} channels of"
                f" the stages; nearest: {nearest_legal(self.groups, divisors(common))}",
            )
        narrowest = min(stage.channels for stage in stages)
        if self.se_ratio > narrowest:
            raise FieldError(
                "se_ratio", f"se_ratio {self.se_ratio} leaves nothing of {narrowest} channels; nearest: {narrowest}"
            )
        passed = [self.width, *(stage.channels for stage in stages)]
        if self.shortcut == "pad" and any(after < before for before, after in pairwise(passed)):
            raise FieldError(
                "shortcut",
                f"pad adds channels, but they fall on the way {passed}; nearest: projection, or wider stages",
            )
        return self

    @model_validator(mode="after")
    def _blocks_can_be_left_out(self) -> Self:
        if self.stochastic_depth and self.shortcut == "none":
            raise FieldError(
                "stochastic_depth", "a plain net (shortcut: none) needs every block; nearest: 0, or shortcut: pad"
            )
        return self
