"""Arguments of gMLPs. Torch-free: the networks are in ``expflow.architectures.gmlp``."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from expflow.architectures.specs import patches
from expflow.architectures.specs.blocks import Activation
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import FieldError, identity


class GMLPSpec(ModelSpec):
    """gMLP: perceptrons with a gate over the tokens (Liu et al. 2021, "Pay Attention to MLPs", arXiv 2105.08050).

    As it stands gMLP-S/16.
    """

    build: ClassVar[str] = "expflow.architectures.gmlp:build"

    patch: int = patches.patch(16)
    depth: int = patches.depth(30)
    width: int = patches.width(256)
    mlp_ratio: float = identity(
        6.0, description="Features inside of a layer, in units of the width; half of them gate the other half.", gt=0
    )
    activation: Activation = patches.activation("gelu")
    dropout: float = patches.dropout()
    stochastic_depth: float = patches.stochastic_depth()
    init: patches.PatchInit = patches.init()

    @property
    def hidden(self) -> int:
        """Features inside of a layer, before the gate."""
        return round(self.width * self.mlp_ratio)

    @model_validator(mode="after")
    def _two_halves(self) -> Self:
        if self.hidden < 2 or self.hidden % 2:
            legal = " and ".join(
                f"{hidden / self.width:.6g}" for hidden in (self.hidden - 1, self.hidden + 1) if hidden >= 2
            )
            raise FieldError(
                "mlp_ratio",
                f"{self.hidden} features (mlp_ratio {self.mlp_ratio:g} of width {self.width}) have no two halves;"
                f" nearest: {legal}",
            )
        return self
