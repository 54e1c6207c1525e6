"""How far images are from the content of some and the style of others, in the layers of a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expflow.tasks.image_metrics import gradient_energy
from expflow.tasks.layer_features import LayerFeatures
from expflow.tasks.style_specs import StyleSpec


def gram(maps_bchw: Tensor) -> Tensor:
    """(b, c, c): the products of all pairs of maps, summed over positions, over the number of values of an image.

    Args:
        maps_bchw: (b, c, h, w) what a layer gives.

    Source:
        Johnson et al. 2016, equation 3; that of Gatys et al. 2016, equation 3, is not divided.
    """
    flat_bcp = maps_bchw.flatten(2)
    return flat_bcp @ flat_bcp.transpose(1, 2) / flat_bcp[0].numel()


def content_distance(maps_bchw: Tensor, target_bchw: Tensor) -> Tensor:
    """(b,) mean squared difference of what a layer gives for two images.

    Args:
        maps_bchw: (b, c, h, w) for the one.
        target_bchw: For the other.

    Source:
        Johnson et al. 2016, equation 2.
    """
    return (maps_bchw - target_bchw).square().flatten(1).mean(1)


def style_distance(grams_bcc: Sequence[Tensor], targets_cc: Sequence[Tensor]) -> Tensor:
    """(b,) squared differences of Gram matrices, summed over their entries and over layers.

    Args:
        grams_bcc: Of the images, for each layer.
        targets_cc: Of the style, for each layer.

    Source:
        Johnson et al. 2016, equation 4, summed over layers.
    """
    layers = [(images - style).square().flatten(1).sum(1) for images, style in zip(grams_bcc, targets_cc, strict=True)]
    return torch.stack(layers).sum(0)


class StyleLosses:
    """The losses of images beside their contents and a style.

    Args:
        spec: The layers, and how much each loss counts.
    """

    NAMES = ("loss", "content_loss", "style_loss")

    def __init__(self, spec: StyleSpec) -> None:
        self._spec = spec

    @property
    def layers(self) -> list[str]:
        """The layer of the content, then those of the style."""
        return [self._spec.content_layer, *self._spec.style_layers]

    @torch.no_grad()
    def style_targets(self, features: LayerFeatures, style_nchw: Tensor) -> list[Tensor]:
        """Of each layer of the style the mean Gram matrix (c, c) of the style's pictures.

        Args:
            features: The classifier.
            style_nchw: (n, c, h, w) uint8 pictures.
        """
        maps = features.of(style_nchw.float() / 255, self._spec.style_layers)
        return [gram(layer).mean(0) for layer in maps]

    @torch.no_grad()
    def content_target(self, features: LayerFeatures, content_bchw: Tensor) -> Tensor:
        """(b, c, h, w) what the layer of the content gives.

        Args:
            features: The classifier.
            content_bchw: (b, c, h, w) uint8 contents.
        """
        return features.of(content_bchw.float() / 255, [self._spec.content_layer])[0]

    def of(self, features: LayerFeatures, image_bchw: Tensor, content: Tensor, style: Sequence[Tensor]) -> Tensor:
        """(3, b): the loss, of the content and of the style.

        Args:
            features: The classifier.
            image_bchw: (b, c, h, w) images from 0 to 1.
            content: What :meth:`content_target` gave for their contents.
            style: What :meth:`style_targets` gave.
        """
        first, *others = features.of(image_bchw, self.layers)
        content_b = content_distance(first, content)
        style_b = style_distance([gram(maps) for maps in others], style)
        loss_b = self._spec.content_weight * content_b + self._spec.style_weight * style_b
        if self._spec.smoothness:
            loss_b = loss_b + self._spec.smoothness * gradient_energy(image_bchw)
        return torch.stack([loss_b, content_b, style_b])
