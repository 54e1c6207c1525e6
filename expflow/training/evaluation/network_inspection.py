"""The first layer of a trained network, and the images that it was shown, as plain arrays for figures."""

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
from expflow.training.evaluation.evaluator import Evaluator, Weights


@dataclass(frozen=True)
class FirstLayer:
    """The weights that are applied to the image.

    Attributes:
        name: Dotted path of the layer.
        kind: ``filters`` of a convolution, or ``templates`` of a linear layer.
        weights: (n, height, width, channels) as they are.
        classes: Whether each template is of one class.
    """

    name: str
    kind: Literal["filters", "templates"]
    weights: NDArray[np.float64]
    classes: bool


def first_layer(task: nn.Module, data_spec: DataSpec) -> FirstLayer | None:
    """The first layer that fits an image; None where there is none.

    A Mixer's or ViT's patches are cut by a convolution, so they have one.

    Args:
        task: The network, or a module that holds it.
        data_spec: Shape of the images, and classes.
    """
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


def first_layer_with(evaluator: Evaluator, weights: Weights) -> FirstLayer | None:
    """:func:`first_layer` of a trained network.

    Args:
        evaluator: Holds the network.
        weights: The trained weights.
    """
    evaluator.task.load_state_dict(weights)
    return first_layer(evaluator.task, evaluator.data_spec)


def sample_images(evaluator: Evaluator, split: str, ids: Collection[int]) -> dict[int, NDArray[np.uint8]]:
    """Images (height, width, channels) as the network is shown them, by sample id.

    Images that are no bytes are stretched to 0..255, each by itself.

    Args:
        evaluator: Holds the data.
        split: Name of the split.
        ids: Which samples.
    """
    wanted, images, seen = set(ids), dict[int, NDArray[np.uint8]](), 0
    for batch in evaluator.batches(split) if wanted else ():
        batch_ids = _ids(batch, seen)
        seen += len(batch_ids)
        for row, sample in enumerate(batch_ids):
            if sample in wanted and sample not in images:
                images[sample] = as_picture(batch["image"][row])
        if len(images) == len(wanted):
            break
    return images


def _ids(batch: Any, seen: int) -> list[int]:
    """Ids of the samples of a batch; without ``index``, as in a loader of the user's, they are counted."""
    index = batch.get("index")
    return index.tolist() if index is not None else list(range(seen, seen + len(batch["image"])))


def as_picture(image_chw: Tensor) -> NDArray[np.uint8]:
    """(channels, height, width) -> (height, width, channels); what is no bytes is stretched to 0..255.

    Args:
        image_chw: An image as a batch holds it.
    """
    if image_chw.dtype != torch.uint8:
        low, high = image_chw.min(), image_chw.max()
        image_chw = ((image_chw - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8)
    image_hwc: NDArray[np.uint8] = image_chw.permute(1, 2, 0).cpu().numpy()
    return image_hwc
