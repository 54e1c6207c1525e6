"""Arguments that nets on patches have in common. Torch-free."""

from __future__ import annotations

from typing import Any, Literal

from expflow.architectures.specs.blocks import Init
from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.config.spec import identity

PatchInit = Literal["truncated", Init]
"""How weights are drawn; truncated: normal with standard deviation 0.02, as in DeiT."""


def patch(default: int) -> Any:
    """The field ``patch``.

    Args:
        default: Its default.
    """
    return identity(
        default, description="Height and width of a patch in pixels; must divide the image's.", ge=1, le=MAX_CHANNELS
    )


def depth(default: int) -> Any:
    """The field ``depth``.

    Args:
        default: Its default.
    """
    return identity(default, description="Layers.", ge=1, le=MAX_LAYERS)


def width(default: int) -> Any:
    """The field ``width``.

    Args:
        default: Its default.
    """
    return identity(default, description="Features of each token.", ge=1, le=MAX_CHANNELS)


def activation(default: str) -> Any:
    """The field ``activation``.

    Args:
        default: Its default.
    """
    return identity(default, description="Non-linearity inside each layer.")


def dropout() -> Any:
    """The field ``dropout``."""
    return identity(0.0, description="Probability to drop a value, wherever the paper has dropout.", ge=0, lt=1)


def stochastic_depth() -> Any:
    """The field ``stochastic_depth``."""
    return identity(
        0.0,
        description="Probability to skip the last layer for a sample; it grows evenly from 0 at the first"
        " (Huang et al. 2016).",
        ge=0,
        lt=1,
    )


def init() -> Any:
    """The field ``init``."""
    return identity(
        "xavier",
        description="How the weights of linear layers and convolutions are drawn; truncated (standard deviation 0.02)"
        " suits widths of several hundred.",
    )
