"""What a network costs, as numbers. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NetworkCost:
    """Size of a network and the cost of its forward pass.

    Attributes:
        params: Parameters, trainable or not; a shared one counts once.
        macs: Multiply-adds of one forward pass of one sample; None where they are unknown.
        parts: Parameters of each network by its name, where a recipe names several.
    """

    params: int
    macs: int | None
    parts: Mapping[str, int] = field(default_factory=dict)
