"""What all detectors are: a backbone whose layers keep their names, and a head that turns maps into boxes.

A detector is called with normalised images and, in train mode, their targets; it then gives its losses by name, and in
eval mode for each image ``boxes`` (m, 4), ``scores`` (m,), ``labels`` (m,), and perhaps ``masks`` (m, 1, h, w) or
``keypoints`` (m, p, 3).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expflow.architectures.building import build as build_network
from expflow.architectures.encoder_decoder import EncoderMap, MapEncoder, encoder_maps
from expflow.architectures.specs.detectors import DetectorSpec
from expflow.data.dataspec import DataSpec

Target = dict[str, Tensor]
"""``boxes`` (m, 4), ``labels`` (m,) from 0, ``masks`` (m, h, w) where there are instances, and ``keypoints`` (m, p, 3)
where objects have points."""

Maps = OrderedDict[str, Tensor]


class Detector(MapEncoder):
    """A backbone and a head: (b, c, h, w) -> losses or boxes.

    Its children are the backbone's layers by their own names, and ``head``.

    Args:
        network: The classification network, a row of layers.
        maps: What of it the head sees.
        frozen_norms: Whether batch norms are fixed.
    """

    def __init__(self, network: nn.Module, maps: Sequence[EncoderMap], *, frozen_norms: bool) -> None:
        super().__init__(network, maps)
        if frozen_norms:
            freeze_norms(self)

    def encode(self, x_bchw: Tensor) -> Maps:
        """The backbone's maps of images, the largest first.

        Args:
            x_bchw: Normalised images.
        """
        return OrderedDict((str(place), values) for place, values in enumerate(self.encoded(x_bchw)))


def detector_maps(spec: DetectorSpec, data_spec: DataSpec, smallest_stride: int) -> list[EncoderMap]:
    """The backbone's maps whose values are at least so many pixels apart; its last one where all are finer.

    Args:
        spec: The detector.
        data_spec: The images that it is for.
        smallest_stride: In pixels.

    Raises:
        UserError: The backbone makes no maps.
    """
    maps = encoder_maps(spec.backbone_spec(), data_spec)
    coarse = [offered for offered in maps if stride_of(offered, data_spec) >= smallest_stride]
    return coarse or maps[-1:]


def stride_of(offered: EncoderMap, data_spec: DataSpec) -> int:
    """Pixels that two values of a map are apart, the power of two that is nearest.

    Args:
        offered: The map.
        data_spec: The images that it is of.
    """
    ratio = max(data_spec.image_size[0] / offered.size[0], data_spec.image_size[1] / offered.size[1])
    return 1 << max(round(torch.tensor(ratio, device="cpu").log2().item()), 0)


def backbone_of(spec: DetectorSpec, data_spec: DataSpec) -> nn.Module:
    """The backbone with fresh weights.

    Args:
        spec: The detector.
        data_spec: The images that it is for.
    """
    return build_network(spec.backbone_spec(), data_spec)


def freeze_norms(module: nn.Module) -> None:
    """Put batch norms with fixed statistics and factors in the place of those that learn.

    Args:
        module: Whose children, at any depth, are replaced.
    """
    from torchvision.ops import FrozenBatchNorm2d

    for path, norm in [*module.named_modules()]:
        if isinstance(norm, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
            module.set_submodule(path, frozen)


def shifted(targets: Sequence[Target] | None, by: int) -> list[Target] | None:
    """Targets whose labels are ``by`` higher, as heads need them whose class 0 is the background.

    Args:
        targets: Those of a batch.
        by: 0 or 1.
    """
    if targets is None:
        return None
    return [{**target, "labels": target["labels"] + by} for target in targets]


def called(
    network: Callable[..., Any], x_bchw: Tensor, targets: Sequence[Target] | None, background: int
) -> Mapping[str, Tensor] | list[Target]:
    """What a detector of torchvision gives, with classes from 0.

    Args:
        network: The detector; its images come as a list.
        x_bchw: Normalised images.
        targets: Those of the images, in train mode.
        background: How many classes it has before the first of ours.
    """
    given = network(list(x_bchw), shifted(targets, background))
    if isinstance(given, Mapping):
        return given
    return [{**image, "labels": image["labels"] - background} for image in given]
