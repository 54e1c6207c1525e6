"""Polynomials of degree M (Bishop 2006, "Pattern Recognition and Machine Learning", equation 1.1).

The powers are taken in the form of Legendre's polynomials: they span the same functions, and their coefficients can be
found by gradient descent, which those of plain powers cannot.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expflow.architectures.specs.polynomial import PolynomialNetSpec
from expflow.data.dataspec import DataSpec


class Polynomial(nn.Module):
    """(b, c, h, w) normalised images -> (b, outputs).

    Args:
        degree: M.
        pixels: c * h * w.
        outputs: How many polynomials there are.
        mean: Mean of each channel, of images scaled to 0..1, with which images are normalised.
        std: Standard deviation of each channel, likewise.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, degree: int, pixels: int, outputs: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.degree = degree
        self.register_buffer("_mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(pixels * degree, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, outputs)."""
        x = self.flatten((x_bchw * self._std + self._mean) * 2 - 1)
        powers = [x]
        if self.degree > 1:
            powers.append((3 * x * x - 1) / 2)
        for n in range(2, self.degree):
            powers.append(((2 * n + 1) * x * powers[n - 1] - n * powers[n - 2]) / (n + 1))
        given: Tensor = self.head(torch.cat(powers, 1))
        return given


def build(spec: PolynomialNetSpec, data_spec: DataSpec) -> Polynomial:
    """The polynomial of ``spec``: (b, c, h, w) -> (b, classes).

    Args:
        spec: What the user chose.
        data_spec: The images, with their mean and standard deviation, and what is predicted.

    Source:
        Bishop 2006, equation 1.1; the recurrence of Legendre's polynomials (Bonnet).
    """
    channels, height, width = data_spec.image_shape
    mean, std = data_spec.mean or (0.0,) * channels, data_spec.std or (1.0,) * channels
    return Polynomial(spec.degree, channels * height * width, data_spec.num_classes, mean, std)
