"""The sliced Wasserstein distance: how far two sets of images lie apart, by their projections on random directions."""

from __future__ import annotations

import torch
from torch import Tensor

DIRECTIONS = 128
"""Projections; of twice as many the distance of Fashion-MNIST's splits differs by a hundredth."""

SEED = 2015
"""Of the directions, which are the same in all trials: distances compare."""


class SlicedDistance:
    """Collects the projections of real and made images, batch by batch, and compares their distributions.

    Both sets have to be equally large: the distance of two samples of one distribution falls with their size.

    Args:
        numbers: Numbers of an image.
    """

    def __init__(self, numbers: int) -> None:
        directions = torch.randn(numbers, DIRECTIONS, generator=torch.Generator().manual_seed(SEED))
        self._directions = directions / directions.norm(dim=0)
        self._rows: list[Tensor] = []

    def add(self, real_bchw: Tensor, made_bchw: Tensor, valid_b: Tensor) -> None:
        """Project a batch.

        Args:
            real_bchw: Real images.
            made_bchw: As many made ones.
            valid_b: (b,), false for padding.
        """
        self._directions = self._directions.to(real_bchw.device)
        both = [images.flatten(1).float() @ self._directions for images in (real_bchw, made_bchw)]
        self._rows.append(torch.cat([*both, valid_b[:, None].float()], 1))

    def take(self) -> Tensor:
        """(n, 2 DIRECTIONS + 1): all projections, and whether they count; then it begins anew."""
        rows, self._rows = self._rows, []
        return torch.cat(rows) if rows else self._directions.new_zeros(0, 2 * DIRECTIONS + 1)


def sliced_distance(rows: Tensor) -> Tensor:
    """() the mean over directions of the Wasserstein-1 distance of the projections, between sorted samples.

    Args:
        rows: What :meth:`SlicedDistance.take` gave, of all ranks.

    Source:
        Bonneel et al. 2015, "Sliced and Radon Wasserstein Barycenters of Measures", section 3, with exponent 1.
    """
    counted = rows[rows[:, -1] > 0]
    real, made = counted[:, :DIRECTIONS].sort(0).values, counted[:, DIRECTIONS:-1].sort(0).values
    return (real - made).abs().mean()
