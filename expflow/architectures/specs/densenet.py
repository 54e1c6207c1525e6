"""Arguments of densely connected networks. Torch-free: the networks are in ``expflow.architectures.densenet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from expflow.architectures.specs.blocks import Activation, Init, Norm
from expflow.architectures.specs.layouts import read_listed
from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.architectures.specs.nearest import nearest_legal
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import FieldError, identity

IMAGENET = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
"""Layers of the four dense blocks by depth: table 1 of the paper; 161 is its widest net (growth 48)."""

Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]


class DenseNetSpec(ModelSpec):
    """Densely connected network: each layer reads all before it in its block (Huang et al. 2017, arXiv 1608.06993)."""

    build: ClassVar[str] = "expflow.architectures.densenet:build"

    layout: Literal["cifar", "imagenet"] | Annotated[tuple[Layers, ...], Field(min_length=1)] = identity(
        "cifar",
        description="Dense blocks; cifar: three of equal depth for small images; imagenet: four (table 1 of the"
        " paper); or a list of your own, the number of layers in each.",
    )
    depth: int | None = identity(
        None,
        description="Layers with weights; 6n + 4 in the cifar layout (3n + 4 without bottleneck); 121, 161, 169 or 201"
        " in the imagenet layout; left out where the layout is a list.",
        ge=1,
        le=MAX_LAYERS,
    )
    growth: int = identity(
        None,
        description="Channels that each layer adds (k). By default 12 in the cifar layout, 48 for depth 161, else 32.",
        validate_default=True,
        ge=1,
        le=MAX_CHANNELS,
    )
    compression: float = identity(
        0.5, description="Part of the channels that the transition between two blocks keeps (theta).", gt=0, le=1
    )
    bottleneck: int = identity(
        4,
        description="Channels of the 1x1 convolution before each 3x3, in units of growth; 0: there is none.",
        ge=0,
        le=MAX_CHANNELS,
    )
    stem: Literal["imagenet", "cifar", "deep"] = identity(
        None,
        description="imagenet: 7x7 convolution of stride 2 and max pooling; deep: three 3x3 instead of the 7x7; cifar:"
        " one 3x3 at full size. By default imagenet in its layout, else cifar.",
        validate_default=True,
    )
    stem_width: int | None = identity(
        None,
        description="Channels of the stem; by default twice the growth, and 16 where there is no bottleneck.",
        ge=1,
        le=MAX_CHANNELS,
    )
    activation: Activation = identity("relu", description="Non-linearity.")
    norm: Norm = identity("batch", description="Normalisation before each convolution; with none those have biases.")
    init: Init = identity("he_fan_in", description="How weights of convolutions are drawn.")
    dropout: float = identity(0.0, description="Dropout after each layer's 3x3 convolution (paper: 0.2).", ge=0, lt=1)

    @field_validator("layout", mode="before")
    @classmethod
    def _read_blocks(cls, value: Any) -> Any:
        return read_listed(value, "the layers of a block")

    @field_validator("growth", "stem", mode="before")
    @classmethod
    def _fill_in(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.derived_defaults(info.data)[str(info.field_name)] if value is None else value

    @classmethod
    def derived_defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults that depend on the layout and the depth."""
        layout = given.get("layout", "cifar")
        widest = layout == "imagenet" and given.get("depth") == 161
        return {
            "growth": 12 if layout == "cifar" else 48 if widest else 32,
            "stem": "imagenet" if layout == "imagenet" else "cifar",
        }

    @property
    def blocks(self) -> tuple[int, ...]:
        """Layers of each dense block."""
        if isinstance(self.layout, tuple):
            return self.layout
        depth = self.depth or 0
        return IMAGENET[depth] if self.layout == "imagenet" else 3 * ((depth - 4) // self._step,)

    @property
    def stem_channels(self) -> int:
        """Channels that enter the first dense block."""
        return self.stem_width or (2 * self.growth if self.bottleneck else 16)

    @property
    def _step(self) -> int:
        """Convolutions that one more layer in each of three blocks adds."""
        return 6 if self.bottleneck else 3

    @model_validator(mode="after")
    def _depth_fits_layout(self) -> Self:
        depth, step = self.depth, self._step
        if isinstance(self.layout, tuple):
            if depth is not None:
                raise FieldError("depth", f"depth {depth} beside a list of blocks, which says it already; leave it out")
        elif depth is None:
            raise FieldError("depth", "missing; expected a depth, or a list of blocks as layout")
        elif self.layout == "imagenet":
            if depth not in IMAGENET:
                known = ", ".join(map(str, IMAGENET))
                legal = nearest_legal(depth, IMAGENET)
                raise FieldError("depth", f"depth {depth} is none of the imagenet layout's: {known}; nearest: {legal}")
        elif depth < step + 4 or (depth - 4) % step:
            legal = nearest_legal(depth, range(step + 4, depth + step + 4, step)) or str(step + 4)
            raise FieldError(
                "depth",
                f"depth {depth} is not {step}n+4, as the cifar layout with bottleneck: {self.bottleneck} needs;"
                f" nearest: {legal}",
            )
        return self
