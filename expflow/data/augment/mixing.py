"""MixUp and CutMix: pairs of a batch's samples become one, on whatever device the batch is."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from expflow.data.augment import sample_random
from expflow.data.augment.specs import TrainTransform


def mix(batch: Mapping[str, Tensor], spec: TrainTransform, classes: int, *, seed: int, step: int) -> dict[str, Tensor]:
    """Mix each sample of a batch with the one before it, by MixUp or CutMix.

    Args:
        batch: ``image`` (b, c, h, w), ``label`` (b,) int64, and perhaps ``valid`` (b,) bool: what is not valid is not
            mixed, and not mixed into others.
        spec: Its ``mixup`` and ``cutmix`` are the alphas; without either the batch is returned as it is.
        classes: The number of classes.
        seed: How much is mixed, and where, derives from it and ``step``.
        step: The number of the batch in the training.

    Returns:
        The batch with ``image`` of the same dtype, and ``label`` (b, classes) float32: the shares of the classes.

    Source:
        MixUp: Zhang et al. 2017, equation 1; CutMix: Yun et al. 2019, equations 1 and 2.
    """
    if not (spec.mixup or spec.cutmix):
        return dict(batch)
    key = sample_random.sample_key(seed, step, 0)
    cut = bool(spec.cutmix) and (not spec.mixup or sample_random.uniform(key, sample_random.MIX) < 0.5)
    share = _beta(spec.cutmix if cut else spec.mixup, key)
    image, label = batch["image"], functional.one_hot(batch["label"], classes).float()
    valid = batch["valid"] if "valid" in batch else torch.ones(len(image), dtype=torch.bool, device=image.device)
    both = valid & valid.roll(1)  # no sample is picked by its place: that would have the host wait for the device
    if cut:
        mixed, share = _cut(image, share, key)
    else:
        mixed = _blend(image, share)
    image = torch.where(both[:, None, None, None], mixed, image)
    label = torch.where(both[:, None], share * label + (1 - share) * label.roll(1, 0), label)
    return {**batch, "image": image, "label": label}


def _beta(alpha: float, key: int) -> float:
    """One number from Beta(alpha, alpha)."""
    return float(np.random.Generator(np.random.Philox(key=key)).beta(alpha, alpha))


def _blend(image_bchw: Tensor, share: float) -> Tensor:
    mixed = image_bchw.float().lerp(image_bchw.roll(1, 0).float(), 1 - share)
    return mixed.round_().to(image_bchw.dtype) if not image_bchw.is_floating_point() else mixed.to(image_bchw.dtype)


def _cut(image_bchw: Tensor, share: float, key: int) -> tuple[Tensor, float]:
    """Take a rectangle of 1 - ``share`` of the area from the sample before.

    Also returns the share of the area that is left, which is larger where the rectangle is cut at the borders.
    """
    height, width = image_bchw.shape[-2:]
    middle = (
        sample_random.integer(key, sample_random.MIX + 1, height),
        sample_random.integer(key, sample_random.MIX + 2, width),
    )
    half = 0.5 * math.sqrt(1 - share)
    top, bottom = (min(max(int(middle[0] + sign * half * height), 0), height) for sign in (-1, 1))
    left, right = (min(max(int(middle[1] + sign * half * width), 0), width) for sign in (-1, 1))
    mixed = image_bchw.clone()
    mixed[:, :, top:bottom, left:right] = image_bchw.roll(1, 0)[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
