"""The noise of a diffusion: how much each step adds, and how steps are undone.

Symbols are those of Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (DDPM): beta_t is the variance that step
t adds, alpha_t = 1 - beta_t, and a_t, the paper's alpha bar, the product of alphas up to t. Steps count from 0 here.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

LINEAR = (1e-4, 0.02)
"""First and last beta of the paper's 1,000 steps (section 4); of fewer steps each adds as many times more."""

COSINE_OFFSET, LARGEST_BETA = 0.008, 0.999
"""Of Nichol and Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models", section 3.2."""


def betas(kind: Literal["linear", "cosine"], steps: int) -> Tensor:
    """(steps,) float64: the variance that each step adds.

    Args:
        kind: ``linear`` (Ho et al. 2020, section 4) or ``cosine`` (Nichol and Dhariwal 2021, equation 17).
        steps: T.
    """
    if kind == "linear":
        first, last = (beta * 1000 / steps for beta in LINEAR)
        return torch.linspace(first, last, steps, dtype=torch.float64).clamp(max=LARGEST_BETA)
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = ((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2).cos().square()
    return (1 - f[1:] / f[:-1]).clamp(max=LARGEST_BETA)


class NoiseSchedule(nn.Module):
    """What follows from the betas; tensors move with their module and are no part of its state.

    Args:
        kind: As for :func:`betas`.
        steps: T.
    """

    beta: Tensor
    a: Tensor

    def __init__(self, kind: Literal["linear", "cosine"], steps: int) -> None:
        super().__init__()
        beta = betas(kind, steps)
        self.register_buffer("beta", beta.float(), persistent=False)
        self.register_buffer("a", (1 - beta).cumprod(0).float(), persistent=False)

    def __len__(self) -> int:
        """T."""
        return len(self.beta)

    def noised(self, x0_bchw: Tensor, t_b: Tensor, noise_bchw: Tensor) -> Tensor:
        """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps (equation 4).

        Args:
            x0_bchw: Images from -1 to 1.
            t_b: Steps from 0.
            noise_bchw: eps.
        """
        a = _like(self.a[t_b], x0_bchw)
        return a.sqrt() * x0_bchw + (1 - a).sqrt() * noise_bchw

    def image_of(self, x_bchw: Tensor, t_b: Tensor, noise_bchw: Tensor) -> Tensor:
        """x_0 = (x_t - sqrt(1 - a_t) eps) / sqrt(a_t), equation 4 the other way round.

        Args:
            x_bchw: x_t.
            t_b: Steps from 0.
            noise_bchw: eps.
        """
        a = _like(self.a[t_b], x_bchw)
        return (x_bchw - (1 - a).sqrt() * noise_bchw) / a.sqrt()

    def noise_of(self, x_bchw: Tensor, t_b: Tensor, x0_bchw: Tensor) -> Tensor:
        """eps = (x_t - sqrt(a_t) x_0) / sqrt(1 - a_t).

        Args:
            x_bchw: x_t.
            t_b: Steps from 0.
            x0_bchw: x_0.
        """
        a = _like(self.a[t_b], x_bchw)
        return (x_bchw - a.sqrt() * x0_bchw) / (1 - a).sqrt()

    def posterior(self, x0_bchw: Tensor, x_bchw: Tensor, t_b: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(x_{t-1} | x_t, x_0) (equations 6 and 7), of the shape of images and (b, 1, 1, 1).

        Args:
            x0_bchw: x_0.
            x_bchw: x_t.
            t_b: Steps from 0; at the first one the mean is x_0 and the variance 0.
        """
        beta, a = _like(self.beta[t_b], x_bchw), _like(self.a[t_b], x_bchw)
        before = _like(self._before(t_b), x_bchw)
        mean = (before.sqrt() * beta * x0_bchw + (1 - beta).sqrt() * (1 - before) * x_bchw) / (1 - a)
        return mean, (1 - before) / (1 - a) * beta

    def _before(self, t_b: Tensor) -> Tensor:
        """a of the step before; 1 before the first."""
        return torch.where(t_b > 0, self.a[(t_b - 1).clamp(min=0)], 1.0)

    def earlier(
        self, x0_bchw: Tensor, noise_bchw: Tensor, t: int, s: int, eta: float, generator: torch.Generator
    ) -> Tensor:
        """x_s of an earlier step s < t, from what the network says of x_t.

        x_s = sqrt(a_s) x_0 + sqrt(1 - a_s - sigma^2) eps + sigma z, sigma = eta sqrt((1 - a_s) / (1 - a_t))
        sqrt(1 - a_t / a_s). With eta 0 nothing is random; with eta 1 and s = t - 1 it is a draw from :meth:`posterior`.

        Args:
            x0_bchw: x_0 as the network sees it.
            noise_bchw: eps as the network sees it.
            t: The step.
            s: The earlier step; -1 for x_0 itself.
            eta: As above.
            generator: Of the CPU, for z.

        Source:
            Song et al. 2021, "Denoising Diffusion Implicit Models", equations 12 and 16.
        """
        if s < 0:
            return x0_bchw
        a_t, a_s = self.a[t], self.a[s]
        sigma = eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).sqrt()
        x_bchw = a_s.sqrt() * x0_bchw + (1 - a_s - sigma.square()).clamp(min=0).sqrt() * noise_bchw
        if eta == 0:
            return x_bchw
        z = torch.randn(x0_bchw.shape, generator=generator).to(x0_bchw)
        return x_bchw + sigma * z


def sampling_times(steps: int, number: int) -> list[int]:
    """Which of the steps 0 to T - 1 are walked back, the latest first: evenly spread from the last to the first.

    Args:
        steps: T.
        number: How many.
    """
    if number == 1:
        return [steps - 1]
    return [round(place * (steps - 1) / (number - 1)) for place in reversed(range(number))]


def _like(values_b: Tensor, x_bchw: Tensor) -> Tensor:
    return values_b.view(-1, *[1] * (x_bchw.ndim - 1)).to(x_bchw.dtype)
