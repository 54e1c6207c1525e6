"""Arguments of MLP-Mixers. Torch-free: the networks are in ``expflow.architectures.mixer``."""

from __future__ import annotations

from typing import ClassVar

from expflow.architectures.specs import patches
from expflow.architectures.specs.blocks import Activation
from expflow.config.component_specs import ModelSpec
from expflow.config.spec import identity


class MixerSpec(ModelSpec):
    """MLP-Mixer: perceptrons over tokens and over channels (Tolstikhin et al. 2021, arXiv 2105.01601).

    As it stands Mixer-B/16.
    """

    build: ClassVar[str] = "expflow.architectures.mixer:build"

    patch: int = patches.patch(16)
    depth: int = patches.depth(12)
    width: int = patches.width(768)
    token_ratio: float = identity(
        0.5, description="Hidden units of the perceptron over tokens, in units of the width.", gt=0
    )
    channel_ratio: float = identity(
        4.0, description="Hidden units of the perceptron over channels, in units of the width.", gt=0
    )
    activation: Activation = patches.activation("gelu")
    dropout: float = patches.dropout()
    stochastic_depth: float = patches.stochastic_depth()
    init: patches.PatchInit = patches.init()

    @property
    def token_hidden(self) -> int:
        """Hidden units of the perceptron over tokens."""
        return max(1, round(self.width * self.token_ratio))

    @property
    def channel_hidden(self) -> int:
        """Hidden units of the perceptron over channels."""
        return max(1, round(self.width * self.channel_ratio))
