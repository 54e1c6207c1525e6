"""Arguments of AlexNet. Torch-free: the network is in ``expflow.architectures.alexnet``."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.architectures.specs.blocks import Norm
from expflow.architectures.specs.convnet import ConvNetSpec
from expflow.config.spec import identity


class AlexNetSpec(ConvNetSpec):
    """AlexNet with 96 filters of 11x11 first; made for images of 227x227 (Krizhevsky et al. 2012)."""

    build: ClassVar[str] = "expflow.architectures.alexnet:build"

    streams: Literal[1, 2] = identity(
        1,
        description="2: convolutions 2, 4 and 5 in two groups, as on the paper's two GPUs; 1: each sees all channels.",
    )
    norm: Norm = identity(
        "local_response",
        description="Normalisation of the convolutions' maps; local_response: of the first two, as in the paper.",
    )
