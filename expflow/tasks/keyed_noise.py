"""Random numbers that belong to a sample: the same on any rank, in any batch, and after a resume.

Each number is a hash of the trial's seed, the epoch, the sample's place in its split and the number's own place. So
what a task draws for a sample (noise, a mask) does not depend on which rank trains on it or what else is in its batch,
and what validation draws is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Constants of splitmix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators", figure 17)."""

_BITS = 24
"""Bits of a number in single precision."""

FIXED = -1
"""In the place of an epoch: numbers that are the same in all of them, as validation needs."""


def sample_keys(batch: Mapping[str, Tensor], seed: int, epoch: int) -> Tensor:
    """(b,) int64: a key for each sample of a batch.

    Args:
        batch: With ``index``, the samples' places in their split; without it their places in the batch stand for them.
        seed: The trial's.
        epoch: From 0, or :data:`FIXED`.
    """
    valid = batch["valid"]
    index = batch.get("index")
    if index is None:
        index = torch.arange(len(valid), device=valid.device)
    begun = _mixed_number(_mixed_number(seed) + epoch * _STEP)
    return _mixed(index.to(torch.int64) * _signed(_STEP) + _signed(begun))


def keyed_uniform(keys_b: Tensor, shape: tuple[int, ...], stream: int) -> Tensor:
    """(b, *shape) float32, evenly from 0 up to but without 1.

    Args:
        keys_b: From :func:`sample_keys`.
        shape: Of the numbers of a sample.
        stream: Which numbers: those of another stream have nothing to do with these.
    """
    return (_upper(_hashes(keys_b, math.prod(shape), stream)) / 2**_BITS).view(len(keys_b), *shape)


def keyed_normal(keys_b: Tensor, shape: tuple[int, ...], stream: int) -> Tensor:
    """(b, *shape) float32, normal with mean 0 and variance 1.

    Args:
        keys_b: From :func:`sample_keys`.
        shape: Of the numbers of a sample.
        stream: As for :func:`keyed_uniform`.

    Source:
        Box and Muller 1958, "A Note on the Generation of Random Normal Deviates".
    """
    hashes = _hashes(keys_b, math.prod(shape), stream)
    radius = (-2 * ((_upper(hashes) + 1) / 2**_BITS).log()).sqrt()
    angle = (hashes & (2**_BITS - 1)).float() * (2 * math.pi / 2**_BITS)
    return (radius * angle.cos()).view(len(keys_b), *shape)


def _hashes(keys_b: Tensor, numbers: int, stream: int) -> Tensor:
    """(b, numbers) int64."""
    begun = _mixed(keys_b + _signed(stream * _STEP % 2**64))
    places = torch.arange(1, numbers + 1, device=keys_b.device) * _signed(_STEP)
    return _mixed(begun[:, None] + places)


def _mixed(x: Tensor) -> Tensor:
    """The finalizer of splitmix64, of 64 bits each; products wrap around."""
    x = (x ^ _shifted(x, 30)) * _signed(_FIRST)
    x = (x ^ _shifted(x, 27)) * _signed(_SECOND)
    return x ^ _shifted(x, 31)


def _mixed_number(x: int) -> int:
    """:func:`_mixed` of one number of 64 bits, on the host: nothing is copied to a device for it."""
    x %= 2**64
    x = (x ^ (x >> 30)) * _FIRST % 2**64
    x = (x ^ (x >> 27)) * _SECOND % 2**64
    return x ^ (x >> 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Bits moved to the right, zeros coming from the left."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _upper(hashes: Tensor) -> Tensor:
    return _shifted(hashes, 64 - _BITS).float()


def _signed(number: int) -> int:
    """A number of 64 bits as torch's int64 holds it."""
    return number - 2**64 if number >= 2**63 else number
