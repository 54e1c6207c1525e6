"""Arguments of networks that make images, and of those that judge them. Torch-free: the networks are in
``expflow.architectures.dcgan``, ``pix2pix``, ``resnet_generator`` and ``context_encoder``.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.architectures.specs.limits import MAX_CHANNELS
from expflow.config.component_specs import ModelInput, ModelOutput, ModelSpec
from expflow.config.spec import identity

MapNorm = Literal["batch", "instance", "instance_affine", "none"]
"""Normalisations of these networks: batch norm; instance norm without scale and shift; none."""

Sees = Literal["image", "pair", "centre"]
"""What a discriminator looks at: an image; two of them, one behind the other; or the middle of half the side."""


class DCGANGeneratorSpec(ModelSpec):
    """Noise to an image by transposed convolutions that double the maps (Radford et al. 2016, DCGAN)."""

    build: ClassVar[str] = "expflow.architectures.dcgan:build_generator"
    gives: ClassVar[ModelOutput] = "images"
    takes: ClassVar[ModelInput] = "latent"

    latent: int = identity(100, description="Length of the vector of noise.", ge=1, le=MAX_CHANNELS)
    width: int = identity(
        64, description="Channels of the last maps before the image; each map before has twice as many.", ge=1, le=1024
    )
    norm: MapNorm = identity("batch", description="Normalisation of all maps but the image.")

    def input_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """A vector of noise."""
        return (self.latent,)


class JudgeSpec(ModelSpec):
    """Base of discriminators; no network by itself."""

    gives: ClassVar[ModelOutput] = "realness"

    width: int = identity(64, description="Channels of the first maps.", ge=1, le=1024)
    norm: MapNorm = identity("batch", description="Normalisation of all maps but the first ones.")
    sees: Sees = identity(
        "image",
        description="What it looks at: an image; a pair, condition and image, one behind the other; or the centre, the"
        " middle of half the image's side.",
    )

    def input_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """What it sees of the data's images."""
        channels, height, width = image_shape
        if self.sees == "centre":
            return channels, height // 2, width // 2
        return channels * (2 if self.sees == "pair" else 1), height, width


class DCGANDiscriminatorSpec(JudgeSpec):
    """One score for how real an image looks, by convolutions that halve the maps (Radford et al. 2016, DCGAN)."""

    build: ClassVar[str] = "expflow.architectures.dcgan:build_discriminator"


class PatchDiscriminatorSpec(JudgeSpec):
    """A score for how real each patch of an image looks (Isola et al. 2017, PatchGAN): 70x70 pixels with 3 layers."""

    build: ClassVar[str] = "expflow.architectures.pix2pix:build_discriminator"

    layers: int = identity(
        3, description="Convolutions of stride 2: patches of 16 pixels with 1, of 34 with 2, of 70 with 3.", ge=1, le=6
    )


class Pix2PixGeneratorSpec(ModelSpec):
    """An image to another one by a U-Net of strided convolutions (Isola et al. 2017, pix2pix)."""

    build: ClassVar[str] = "expflow.architectures.pix2pix:build_generator"
    gives: ClassVar[ModelOutput] = "images"

    width: int = identity(
        64, description="Channels of the first maps; each halving doubles them, up to eight times.", ge=1, le=1024
    )
    depth: int | None = identity(
        None,
        description="How often maps are halved; by default as often as both sides can be, and eight times at most.",
        ge=1,
        le=8,
    )
    norm: MapNorm = identity(
        "batch", description="Normalisation of all maps but the first, the innermost and the image."
    )
    dropout: float = identity(
        0.5,
        description="Share of values that training drops behind the inner maps of full width; the net's only noise.",
        ge=0,
        lt=1,
    )
    skip: bool = identity(True, description="Whether the decoder sees the encoder's maps of its size.")


class ResNetGeneratorSpec(ModelSpec):
    """An image to another one by residual blocks on maps of a quarter of its side (Johnson et al. 2016; CycleGAN)."""

    build: ClassVar[str] = "expflow.architectures.resnet_generator:build"
    gives: ClassVar[ModelOutput] = "images"

    width: int = identity(64, description="Channels of the first maps; two halvings double them.", ge=1, le=1024)
    blocks: int = identity(
        9, description="Residual blocks: 9 for images of 256 pixels and more, 6 for smaller ones.", ge=1, le=64
    )
    norm: MapNorm = identity(
        "instance",
        description="Normalisation of all maps but the image; instance_affine has scales and shifts, too.",
    )
    kernel: Literal[3, 5, 7, 9] = identity(7, description="Side of the first and the last filters, in pixels.")
    enlarge: Literal["transposed", "nearest"] = identity(
        "transposed",
        description="How maps are enlarged: transposed convolutions, or nearest pixels and then a convolution, which"
        " leaves no checkerboard (Odena et al. 2016).",
    )


class ContextEncoderSpec(ModelSpec):
    """The missing centre of an image, of half its side, by way of a narrow code (Pathak et al. 2016)."""

    build: ClassVar[str] = "expflow.architectures.context_encoder:build"
    gives: ClassVar[ModelOutput] = "centre"

    width: int = identity(64, description="Channels of the first maps.", ge=1, le=1024)
    bottleneck: int = identity(4000, description="Length of the code between encoder and decoder.", ge=1, le=100_000)
    norm: MapNorm = identity("batch", description="Normalisation of all maps but the first ones and the image.")
