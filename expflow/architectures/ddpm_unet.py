"""The U-Net of diffusion (Ho et al. 2020, "Denoising Diffusion Probabilistic Models", appendix B).

Shapes in names: b samples, c channels, h and w rows and columns, e features of the step's embedding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import dropout
from expflow.architectures.specs.ddpm_unet import DDPMUNetSpec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

GROUPS, EPSILON = 32, 1e-6
"""Of the group norms; of fewer than 128 channels fewer groups, of four channels or more."""

LONGEST_WAVE = 10_000


def embedded_steps(t_b: Tensor, width: int) -> Tensor:
    """(b,) steps -> (b, width): sines and cosines of wavelengths from 2 pi to 10000 * 2 pi, side by side.

    Args:
        t_b: Steps, of a floating type.
        width: Features; an odd last one is 0.
    """
    half = width // 2
    places = torch.arange(half, device=t_b.device, dtype=t_b.dtype)
    angle_bf = (places * (-math.log(LONGEST_WAVE) / max(half - 1, 1))).exp()[None] * t_b[:, None]
    waves = torch.cat([angle_bf.sin(), angle_bf.cos()], 1)
    return functional.pad(waves, (0, width % 2)) if width % 2 else waves


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels // 4), channels, eps=EPSILON)


class SpatialAttention(nn.Module):
    """Self-attention of one head over all pixels of a map, with a shortcut: (b, c, h, w) -> (b, c, h, w).

    Args:
        channels: c.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        y_bchw = self.norm(x_bchw)
        q, k, v = (layer(y_bchw).flatten(2).transpose(1, 2)[:, None] for layer in (self.query, self.key, self.value))
        context_b1tc = functional.scaled_dot_product_attention(q, k, v)
        context = context_b1tc[:, 0].transpose(1, 2).reshape(x_bchw.shape).contiguous()
        y: Tensor = x_bchw + self.output(context)
        return y


class StepBlock(nn.Module):
    """Two convolutions with a shortcut around them, between which the step is added: (b, c, h, w) -> (b, c', h, w).

    Args:
        channels_in: c.
        channels: c'.
        embedding: e.
        drop: Probability to drop a value before the second convolution.
        attends: Whether self-attention follows.
    """

    def __init__(self, channels_in: int, channels: int, embedding: int, drop: float, *, attends: bool) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(channels_in), nn.Conv2d(channels_in, channels, 3, padding=1)
        self.step = nn.Linear(embedding, channels)
        self.norm2, self.drop = _norm(channels), dropout(drop)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        self.attention = SpatialAttention(channels) if attends else nn.Identity()

    def forward(self, x_bchw: Tensor, step_be: Tensor) -> Tensor:
        """(b, c, h, w) maps and (b, e) steps -> (b, c', h, w)."""
        y_bchw = self.conv1(functional.silu(self.norm1(x_bchw)))
        y_bchw = y_bchw + self.step(functional.silu(step_be))[:, :, None, None]
        y_bchw = self.conv2(self.drop(functional.silu(self.norm2(y_bchw))))
        output: Tensor = self.attention(self.shortcut(x_bchw) + y_bchw)
        return output


class UNetLevel(nn.Module):
    """Blocks of maps of one size, and the convolution that leads to the next size.

    Args:
        blocks: The blocks.
        resize: The convolution; None at the last level.
    """

    def __init__(self, blocks: list[StepBlock], resize: nn.Conv2d | None) -> None:
        super().__init__()
        self.blocks, self.resize = nn.ModuleList(blocks), resize


class DDPMUNet(nn.Module):
    """(b, c, h, w) images with noise and (b,) their steps -> (b, c, h, w), the noise as the network sees it.

    Args:
        spec: Widths, blocks and attention.
        channels: Channels of the images.
    """

    def __init__(self, spec: DDPMUNetSpec, channels: int) -> None:
        super().__init__()
        width, embedding = spec.width, 4 * spec.width
        self._width = width
        self.step = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.stem = nn.Conv2d(channels, width, 3, padding=1)

        def block(channels_in: int, channels: int, *, attends: bool) -> StepBlock:
            return StepBlock(channels_in, channels, embedding, spec.dropout, attends=attends)

        widths = [width * factor for factor in spec.factors]
        entering, last, kept = width, len(widths) - 1, [width]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, leaving in enumerate(widths):
            blocks = []
            for _ in range(spec.blocks):
                blocks.append(block(entering, leaving, attends=level in spec.attention))
                entering = leaving
                kept.append(leaving)
            self.down.append(UNetLevel(blocks, nn.Conv2d(leaving, leaving, 3, 2, 1) if level < last else None))
            kept += [leaving] if level < last else []
        self.middle = nn.ModuleList([block(entering, entering, attends=attends) for attends in (True, False)])
        for level, leaving in reversed(list(enumerate(widths))):
            blocks = []
            for _ in range(spec.blocks + 1):
                blocks.append(block(entering + kept.pop(), leaving, attends=level in spec.attention))
                entering = leaving
            self.up.append(UNetLevel(blocks, nn.Conv2d(leaving, leaving, 3, padding=1) if level else None))
        self.head = nn.Sequential(_norm(entering), nn.SiLU(), nn.Conv2d(entering, channels, 3, padding=1))
        self._begin_as_nothing()

    def _begin_as_nothing(self) -> None:
        """Blocks begin as their shortcuts, and the network with 0, as in the authors' code."""
        ends: list[Any] = [module.conv2 for module in self.modules() if isinstance(module, StepBlock)]
        ends += [module.output for module in self.modules() if isinstance(module, SpatialAttention)]
        for end in (*ends, self.head[2]):
            nn.init.zeros_(end.weight)
            nn.init.zeros_(end.bias)

    def forward(self, x_bchw: Tensor, t_b: Tensor | None = None) -> Tensor:
        """(b, c, h, w) images and (b,) steps, by default 0, -> (b, c, h, w)."""
        t_b = x_bchw.new_zeros(len(x_bchw)) if t_b is None else t_b.to(x_bchw.dtype)
        step_be = self.step(embedded_steps(t_b, self._width))
        down: Any = self.down
        up: Any = self.up
        maps = [self.stem(x_bchw)]
        for level in down:
            for block in level.blocks:
                maps.append(block(maps[-1], step_be))
            if level.resize is not None:
                maps.append(level.resize(maps[-1]))
        y_bchw = maps[-1]
        for block in self.middle:
            y_bchw = block(y_bchw, step_be)
        for level in up:
            for block in level.blocks:
                y_bchw = block(torch.cat([y_bchw, maps.pop()], 1), step_be)
            if level.resize is not None:
                y_bchw = level.resize(functional.interpolate(y_bchw, size=maps[-1].shape[2:], mode="nearest"))
        noise_bchw: Tensor = self.head(y_bchw)
        return noise_bchw


def build(spec: DDPMUNetSpec, data_spec: DataSpec) -> DDPMUNet:
    """The U-Net of ``spec``: (b, c, h, w) and steps (b,) -> (b, c, h, w).

    Args:
        spec: What the user chose.
        data_spec: The images that it is for.

    Raises:
        UserError: The images are too small for its levels.
    """
    smallest = 2 ** (len(spec.factors) - 1)
    if min(data_spec.image_size) < smallest:
        height, width = data_spec.image_size
        raise UserError(
            f"model ddpm_unet: images of {height}x{width} cannot be halved {len(spec.factors) - 1} times; shorten"
            f" model.factors, or use images of at least {smallest} pixels"
        )
    return DDPMUNet(spec, data_spec.in_channels)
