"""Arguments of the autoencoder. Torch-free: the network is in ``expflow.architectures.autoencoder``."""

from __future__ import annotations

from typing import ClassVar

from expflow.architectures.specs.backbone import WithBackboneSpec
from expflow.architectures.specs.blocks import Activation, Norm
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelOutput
from expflow.config.spec import identity


class AutoencoderSpec(WithBackboneSpec):
    """A classification network of ours as encoder, a code of few numbers, and a decoder back to the image.

    Every key that is none of these is one of the backbone's. Code and decoder are the head: what the encoder has
    learned is taken over into the classification network with init.
    """

    build: ClassVar[str] = "expflow.architectures.autoencoder:build"
    gives: ClassVar[ModelOutput] = "images"

    code: int = identity(32, description="Numbers that the image is squeezed through.", ge=1, le=MAX_CHANNELS)
    decoder_width: int = identity(64, description="Channels of the decoder's maps.", ge=1, le=MAX_CHANNELS)
    decoder_norm: Norm = identity("batch", description="Normalisation of the decoder's maps.")
    decoder_activation: Activation = identity("relu", description="Non-linearity of the decoder.")
