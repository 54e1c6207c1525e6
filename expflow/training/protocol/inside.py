"""What a trained network is made of and what it looked at, as plain arrays, for whoever draws them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.training.protocol.evaluating import Bench, Weights


@dataclass(frozen=True)
class FirstLayer:
    """The weights that meet the image: ``filters`` of a convolution, or ``templates`` of a linear layer.

    ``weights`` (n, height, width, channels) as they are; ``classes`` is true where each is of one class.
    """

    name: str
    kind: Literal["filters", "templates"]
    weights: NDArray[np.float64]
    classes: bool


def first_layer(task: nn.Module, data_spec: DataSpec) -> FirstLayer | None:
    """The first layer of ``task`` that fits an image of ``data_spec``; None where there is none (a Mixer's or ViT's
    patches are cut by a convolution, so they have one)."""
    if "image" not in data_spec.fields:
        return None
    channels, height, width = data_spec.image_shape
    for name, module in task.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == channels:
            weights = module.weight.detach().double().cpu().numpy().transpose(0, 2, 3, 1)
            return FirstLayer(name, "filters", weights, classes=False)
        if isinstance(module, nn.Linear) and module.in_features == math.prod(data_spec.image_shape):
            rows = module.weight.detach().double().cpu().numpy().reshape(-1, channels, height, width)
            return FirstLayer(
                name, "templates", rows.transpose(0, 2, 3, 1), module.out_features == data_spec.num_classes
            )
    return None


def layer_of(bench: Bench, weights: Weights) -> FirstLayer | None:
    """:func:`first_layer` of the network on ``bench`` with ``weights``."""
    bench.task.load_state_dict(weights)
    return first_layer(bench.task, bench.data_spec)


def images_of(bench: Bench, split: str, ids: Collection[int]) -> dict[int, NDArray[np.uint8]]:
    """Id -> image (height, width, channels) as the network is shown it, of those samples of ``split`` that are asked
    for. Images that are no bytes are stretched to 0..255, each by itself."""
    wanted, found, seen = set(ids), dict[int, NDArray[np.uint8]](), 0
    for batch in bench.batches(split) if wanted else ():
        places = _ids(batch, seen)
        seen += len(places)
        for row, place in enumerate(places):
            if place in wanted and place not in found:
                found[place] = _picture(batch["image"][row])
        if len(found) == len(wanted):
            break
    return found


def _ids(batch: Any, seen: int) -> list[int]:
    """The samples of a batch; a loader of the user's that has no ``index`` counts them."""
    index = batch.get("index")
    return index.tolist() if index is not None else list(range(seen, seen + len(batch["image"])))


def _picture(image_chw: Tensor) -> NDArray[np.uint8]:
    if image_chw.dtype != torch.uint8:
        low, high = image_chw.min(), image_chw.max()
        image_chw = ((image_chw - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8)
    found: NDArray[np.uint8] = image_chw.permute(1, 2, 0).cpu().numpy()
    return found
