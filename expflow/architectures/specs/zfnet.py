"""Arguments of ZFNet. Torch-free: the network is in ``expflow.architectures.zfnet``."""

from __future__ import annotations

from typing import ClassVar, Literal

from expflow.architectures.specs.convnet import ConvNetSpec
from expflow.config.spec import identity


class ZFNetSpec(ConvNetSpec):
    """AlexNet that begins with 7x7 filters at stride 2; for images of 224x224 (Zeiler and Fergus 2014)."""

    build: ClassVar[str] = "expflow.architectures.zfnet:build"

    widths: Literal["paper", "lecture"] = identity(
        "paper",
        description="Filters of convolutions 3, 4 and 5: paper 384, 384, 256; lecture 512, 1024, 512, as courses print"
        " the larger net.",
    )
