"""Accuracy that torchvision publishes with its weights. Their metadata is read; nothing is loaded from anywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

TOLERANCE = 0.005
"""Torchvision rounds its multiply-adds to a thousandth of a billion."""


@dataclass(frozen=True)
class Published:
    """ImageNet top-1 as a share, and the weights that reach it (``ResNet50_Weights.IMAGENET1K_V2``)."""

    model: str
    top1: float
    weights: str
    params: int
    gmacs: float


@cache
def all_published() -> tuple[Published, ...]:
    """All classification weights that state their accuracy on ImageNet-1K; each model's recommended ones first."""
    import torchvision.models

    found = []
    for name in torchvision.models.list_models(torchvision.models):
        weights = torchvision.models.get_model_weights(name)
        for each in sorted(weights, key=lambda one: one is not weights.DEFAULT):
            top1 = each.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
            if top1 is not None and math.isfinite(top1) and "_ops" in each.meta:
                found.append(
                    Published(name, round(top1 / 100, 6), str(each), each.meta["num_params"], each.meta["_ops"])
                )
    return tuple(found)


def published(params: int, macs: int | None) -> Published | None:
    """What is published for the network of so many parameters and multiply-adds at its published image size.

    Both together tell the published networks from each other, whoever built them; None where there is no such one.
    """
    for each in all_published():
        if each.params == params and macs is not None and abs(macs / 1e9 - each.gmacs) <= TOLERANCE * each.gmacs:
            return each
    return None


def published_as(model: str) -> Published | None:
    """What is published for torchvision's ``model`` as it is, whatever its head for training adds to the count."""
    return next((each for each in all_published() if each.model == model), None)
