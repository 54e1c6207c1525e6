"""Arguments of a child network. Torch-free: the network is in ``expflow.architectures.child``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from expflow.architectures.specs.blocks import Activation, Init, Norm
from expflow.architectures.specs.child_cells import canonical_cell
from expflow.architectures.specs.child_layers import canonical_layers, parse_layers
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import FieldError, identity

DEFAULT_LAYERS = "3x3 s1 n16"


class ChildSpec(ModelSpec):
    """A network that a search describes: layers (Zoph and Le 2017), or cells as those of NASNet and DARTS."""

    build: ClassVar[str] = "expflow.architectures.child:build"

    layers: str = identity(
        DEFAULT_LAYERS,
        description="Convolutional layers, each as HEIGHTxWIDTH sSTRIDE nFILTERS +SKIP: 3x3 s1 n16, 5x3 s2 n24 +1.",
    )
    normal: str = identity(
        "",
        description="Cell that keeps the size, instead of layers: nodes of two operations each, and what is"
        " concatenated: sep_conv_3x3(0) + skip_connect(1), max_pool_3x3(2) + conv_1x1(1) > 2 3.",
    )
    reduction: str = identity("", description="Cell that halves the size; by default as the normal one.")
    cells: int = identity(
        8, ge=1, le=1000, description="Number of cells; those after a third and two thirds of them halve the size."
    )
    width: int = identity(16, ge=2, le=MAX_CHANNELS, description="Channels of the first cells; each reduction doubles.")
    stem_factor: int = identity(
        3, ge=1, le=MAX_CHANNELS, description="Channels of the convolution before the cells, in units of width."
    )
    activation: Activation = identity("relu", description="Non-linearity of each convolution.")
    norm: Norm = identity("batch", description="Normalisation of each convolution of a layer child.")
    padding: Literal["same", "valid"] = identity(
        "same", description="Zeros around a layer's input: as many as keep its size, or none."
    )
    downsample: Literal["convolution", "max", "average"] = identity(
        "convolution",
        description="What a layer's stride belongs to: the convolution, or pooling behind it.",
    )
    dropout: float = identity(0.0, ge=0, lt=1, description="Share of values dropped before the classifier.")
    init: Init = identity("torch", description="How the weights of convolutions are drawn.")

    @field_validator("layers", mode="before")
    @classmethod
    def _one_text_per_child(cls, value: Any) -> str:
        return canonical_layers(value)

    @field_validator("normal", "reduction", mode="before")
    @classmethod
    def _one_text_per_cell(cls, value: Any) -> str:
        return canonical_cell(value) if value != "" else ""

    @model_validator(mode="after")
    def _layers_or_cells(self) -> Self:
        if self.reduction and not self.normal:
            raise FieldError("reduction", "a reduction cell needs a normal one beside it: give model.normal, too")
        if self.normal and self.layers != DEFAULT_LAYERS:
            raise FieldError("layers", "give layers or cells (model.normal), not both")
        if self.normal and self.width % 2:
            raise FieldError("width", f"cells need an even width, found {self.width}")
        if not self.normal and self.padding == "same":
            for number, layer in enumerate(parse_layers(self.layers), start=1):
                if layer.height % 2 == 0 or layer.width % 2 == 0:
                    raise FieldError(
                        "layers", f"layer {number} ({layer}): padding `same` needs odd sides; or set padding: valid"
                    )
        return self
