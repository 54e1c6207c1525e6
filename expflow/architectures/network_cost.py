"""What a network costs, as numbers. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkCost:
    """Size of a network and the cost of its forward pass.

    Attributes:
        params: Parameters, trainable or not; a shared one counts once.
        macs: Multiply-adds of one forward pass of one sample; None where they are unknown.
    """

    params: int
    macs: int | None
