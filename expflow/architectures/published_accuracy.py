"""Accuracy that torchvision publishes with its weights. Their metadata is read; nothing is loaded from anywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

TOLERANCE = 0.005
"""Torchvision rounds its multiply-adds to a thousandth of a billion."""


@dataclass(frozen=True)
class PublishedAccuracy:
    """What torchvision states of weights for ImageNet-1K.

    Attributes:
        model: The network's name in torchvision.
        top1: Top-1 accuracy as a share.
        weights: The weights that reach it (``ResNet50_Weights.IMAGENET1K_V2``).
        params: Parameters of the network.
        gmacs: Billions of multiply-adds for one image of the published size.
    """

    model: str
    top1: float
    weights: str
    params: int
    gmacs: float


@cache
def published_accuracies() -> tuple[PublishedAccuracy, ...]:
    """All classification weights that state their accuracy on ImageNet-1K; each model's recommended ones first."""
    import torchvision.models

    published = []
    for name in torchvision.models.list_models(torchvision.models):
        enum = torchvision.models.get_model_weights(name)
        for weights in sorted(enum, key=lambda weights: weights is not enum.DEFAULT):
            meta = weights.meta
            top1 = meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
            if top1 is not None and math.isfinite(top1) and "_ops" in meta:
                share = round(top1 / 100, 6)
                published.append(PublishedAccuracy(name, share, str(weights), meta["num_params"], meta["_ops"]))
    return tuple(published)


def accuracy_by_cost(params: int, macs: int | None) -> PublishedAccuracy | None:
    """What is published for the network of a certain cost, whoever built it.

    Parameters and multiply-adds together tell the published networks from each other.

    Args:
        params: Parameters.
        macs: Multiply-adds for one image of the published size; None where they are unknown.

    Returns:
        None where no published network costs the same.
    """
    for published in published_accuracies():
        same_macs = macs is not None and abs(macs / 1e9 - published.gmacs) <= TOLERANCE * published.gmacs
        if published.params == params and same_macs:
            return published
    return None


def accuracy_by_name(model: str) -> PublishedAccuracy | None:
    """What is published for a network of torchvision's, whatever its head for training adds to the count.

    Args:
        model: Its name in torchvision.

    Returns:
        None where there is none of this name.
    """
    return next((published for published in published_accuracies() if published.model == model), None)
