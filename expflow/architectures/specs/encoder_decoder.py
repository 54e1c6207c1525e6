"""Arguments of encoder-decoders. Torch-free: the network is in ``expflow.architectures.encoder_decoder``."""

from __future__ import annotations

from typing import ClassVar

from expflow.architectures.specs.backbone import WithBackboneSpec
from expflow.architectures.specs.blocks import Activation, Norm
from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelOutput
from expflow.config.spec import identity


class EncoderDecoderSpec(WithBackboneSpec):
    """A classification network of ours as encoder, and a decoder that doubles its maps up to the image's size.

    Every key that is none of these is one of the backbone's. The decoder is the head: what was learned as a
    classification network is taken over with init.
    """

    build: ClassVar[str] = "expflow.architectures.encoder_decoder:build"
    gives: ClassVar[ModelOutput] = "maps"

    decoder_width: int = identity(64, description="Channels of the decoder's maps.", ge=1, le=MAX_CHANNELS)
    decoder_skips: bool = identity(
        True, description="Whether the decoder sees the encoder's maps of its size beside what it has doubled."
    )
    decoder_norm: Norm = identity("batch", description="Normalisation of the decoder's maps.")
    decoder_activation: Activation = identity("relu", description="Non-linearity of the decoder.")
