"""Where a vision transformer looks: the attention that its classification gathers from each patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expflow.architectures.attention import MultiHeadAttention
from expflow.architectures.vit import ViT
from expflow.errors import UserError
from expflow.training.evaluation.evaluator import Evaluator, Weights
from expflow.training.evaluation.inference_network import example_inputs
from expflow.training.evaluation.network_inspection import as_picture
from expflow.training.evaluation.top_patches import network_of

IMAGES = 6
"""Images that are shown."""


@dataclass(frozen=True)
class AttentionMaps:
    """Attention over the patches of images.

    Attributes:
        pictures: The images, (height, width, channels) uint8.
        layers: (images, layers, rows, columns) of each layer, the mean over its heads.
        heads: (images, heads, rows, columns) of the last layer.
        rollout: (images, rows, columns) through all layers, shortcuts included.
        from_token: Whether it is the attention of the class token; else the mean over all patches.
    """

    pictures: tuple[NDArray[np.uint8], ...]
    layers: NDArray[np.float64]
    heads: NDArray[np.float64]
    rollout: NDArray[np.float64]
    from_token: bool


def attention_weights(
    attention: MultiHeadAttention, x_btw: Tensor, other_bsw: Tensor | None = None, seen: Tensor | None = None
) -> Tensor:
    """(b, h, t, s) what each token (third) takes from each other (fourth): rows add up to 1.

    Args:
        attention: The layer.
        x_btw: Its input.
        other_bsw: The tokens that are attended to, by default the same.
        seen: Which of them a token may see, broadcast to the result; by default all.

    Source:
        Vaswani et al., Attention Is All You Need, 2017, equation 1.
    """
    other_bsw = x_btw if other_bsw is None else other_bsw
    q_bthd, k_bshd = (
        layer(tokens).unflatten(2, (attention.heads, -1))
        for layer, tokens in ((attention.query, x_btw), (attention.key, other_bsw))
    )
    scores_bhts = torch.einsum("bthd,bshd->bhts", q_bthd, k_bshd) / q_bthd.shape[3] ** 0.5
    return (scores_bhts if seen is None else scores_bhts.masked_fill(~seen, -torch.inf)).softmax(3)


def attention_rollout(layers_blht: list[Tensor]) -> Tensor:
    """(b, t, t) attention through all layers: the product of (A + 1) / 2, the mean over heads and the shortcut.

    Args:
        layers_blht: (b, h, t, t) of each layer, the first first.

    Raises:
        UserError: There are no layers.

    Source:
        Abnar and Zuidema, Quantifying Attention Flow in Transformers, 2020, section 3.
    """
    rolled: Tensor | None = None
    for weights in layers_blht:
        mixed = (weights.mean(1) + torch.eye(weights.shape[-1], dtype=weights.dtype)) / 2
        rolled = mixed if rolled is None else mixed @ rolled
    if rolled is None:
        raise UserError("the network has no layers")
    return rolled


def attention_maps(evaluator: Evaluator, weights: Weights, split: str = "val") -> AttentionMaps:
    """The attention of a trained vision transformer for the first images of a split.

    Args:
        evaluator: Holds network and data.
        weights: The trained weights.
        split: Whose images are shown.

    Raises:
        UserError: The network is no vision transformer of ours.
    """
    evaluator.put_weights(weights, "these weights")
    network = network_of(evaluator.task)
    if not isinstance(network, ViT):
        raise UserError(
            "--attention draws the maps of a vision transformer (model: vit), and this network is"
            f" {type(network).__name__}"
        )
    images = example_inputs(evaluator, split, IMAGES)
    layers = _observed(evaluator.task.eval(), network, images)
    rows, columns = _grid(network, images)
    extra = layers[0].shape[2] - rows * columns
    rolled = attention_rollout(layers)

    def as_maps(weights_bxtt: Tensor) -> NDArray[np.float64]:
        taken = weights_bxtt[..., 0, extra:] if extra else weights_bxtt.mean(-2)
        return taken.unflatten(-1, (rows, columns)).double().numpy()

    means = torch.stack([weights.mean(1) for weights in layers], 1)
    pictures = tuple(as_picture(image) for image in images)
    return AttentionMaps(pictures, as_maps(means), as_maps(layers[-1]), as_maps(rolled), bool(extra))


def _observed(task: nn.Module, network: ViT, images: Tensor) -> list[Tensor]:
    matrices: list[Tensor] = []

    def look(module: Any, args: tuple[Tensor, ...]) -> None:
        matrices.append(attention_weights(module, args[0].detach()))

    handles = [
        module.register_forward_pre_hook(look) for module in network.modules() if isinstance(module, MultiHeadAttention)
    ]
    try:
        with torch.no_grad():
            task(images)
    finally:
        for handle in handles:
            handle.remove()
    return matrices


def _grid(network: ViT, images: Tensor) -> tuple[int, int]:
    """Rows and columns of patches."""
    with torch.no_grad():
        projected = network.patches.projection(images[:1].float())
    return projected.shape[2], projected.shape[3]
