"""torchvision's detection heads on our backbones.

torchvision's modules take lists of images, resize and normalise them, call their ``backbone`` and compute losses or
boxes. Here images come as one batch that is ready, so nothing is resized, and ``backbone`` is a pyramid of maps that
our own layers compute. torchvision.models.detection is imported where a detector is built, and nowhere else: it imports
torch's compiler, which takes seconds.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expflow.architectures.blocks import init_weights
from expflow.architectures.detector_network import (
    Detector,
    Maps,
    Target,
    backbone_of,
    called,
    detector_maps,
    stride_of,
)
from expflow.architectures.encoder_decoder import EncoderMap
from expflow.architectures.specs.detectors import (
    FasterRCNNSpec,
    FCOSSpec,
    KeypointRCNNSpec,
    MaskRCNNSpec,
    PyramidDetectorSpec,
    RetinaNetSpec,
    SSDSpec,
)
from expflow.data.dataspec import DataSpec
from expflow.data.keypoint_layout import PERSON

REGION = 7
"""Height and width of what a head sees of a region."""

MASK_REGION = POINT_REGION = 14


class MapPyramid(nn.Module):
    """The maps that a head sees, all of one width: joined from coarse to fine, or the last map alone.

    Args:
        encode: Computes the backbone's maps of a batch of images; its layers are the detector's.
        maps: Which maps those are.
        spec: Width, kind and further levels.
        pooled: Whether further levels are subsampled rather than convolved.
    """

    def __init__(
        self, encode: Callable[[Tensor], Maps], maps: Sequence[EncoderMap], spec: PyramidDetectorSpec, *, pooled: bool
    ) -> None:
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        self._encode = (encode,)  # a tuple, so that the backbone is no child of its head's
        self.joined = (
            FeaturePyramidNetwork([offered.channels for offered in maps], spec.head_width) if spec.fpn else None
        )
        rows = maps if isinstance(spec, SSDSpec) else maps[-1:]
        self.lateral = (
            None if spec.fpn else nn.ModuleList(nn.Conv2d(offered.channels, spec.head_width, 1) for offered in rows)
        )
        further = (
            nn.MaxPool2d(1, 2) if pooled else nn.Conv2d(spec.head_width, spec.head_width, 3, 2, 1) for _ in _extra(spec)
        )
        self.further = nn.ModuleList(further)
        for module in (self.lateral, self.further):
            if module is not None:
                init_weights(module, "he_fan_in")
        levels = len(maps) if spec.fpn else len(rows)
        self.out_channels: int | list[int] = spec.head_width
        if isinstance(spec, SSDSpec):
            self.out_channels = [spec.head_width] * (levels + spec.extra_levels)

    def forward(self, x_bchw: Tensor) -> Maps:
        """(b, c, h, w) -> the maps, the largest first."""
        maps = self._encode[0](x_bchw)
        if self.joined is not None:
            maps = self.joined(maps)
        elif self.lateral is not None:
            kept = list(maps.values())[-len(self.lateral) :]
            maps = OrderedDict((str(n), layer(m)) for n, (layer, m) in enumerate(zip(self.lateral, kept, strict=True)))
        for layer in self.further:
            maps[str(len(maps))] = layer(next(reversed(maps.values())))
        return maps


def _extra(spec: PyramidDetectorSpec) -> range:
    return range(spec.extra_levels)


class HeadedDetector(Detector):
    """A detector with one of torchvision's heads.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.
    """

    def __init__(self, spec: PyramidDetectorSpec, data_spec: DataSpec) -> None:
        maps = detector_maps(spec, data_spec, spec.smallest_stride)
        super().__init__(backbone_of(spec, data_spec), maps, frozen_norms=spec.frozen_norms)
        two_stages = isinstance(spec, FasterRCNNSpec)
        self.needs_instances = isinstance(spec, MaskRCNNSpec)
        self.needs_points = isinstance(spec, KeypointRCNNSpec)
        self.background = 1 if two_stages or isinstance(spec, SSDSpec) else 0
        pyramid = MapPyramid(self.encode, maps, spec, pooled=two_stages)
        self.head = MAKERS[type(spec)](spec, data_spec, pyramid, maps)

    def forward(self, x_bchw: Tensor, targets: Sequence[Target] | None = None) -> Any:
        """Images, and in train mode their targets -> losses by name, or boxes of each image."""
        if x_bchw.is_meta:
            return self.dense_outputs(x_bchw)
        return called(self.head, x_bchw, targets, self.background)

    def dense_outputs(self, x_bchw: Tensor) -> Tensor:
        """All that does not depend on what is predicted: of regions, as many as there can be. For counting alone.

        Args:
            x_bchw: Images on the meta device.
        """
        maps = list(self.head.backbone(x_bchw).values())
        if not hasattr(self.head, "rpn"):
            return torch.cat([value.flatten() for value in _tensors(self.head.head(maps))])
        parts, roi = _tensors(self.head.rpn.head(maps)), self.head.roi_heads
        regions = x_bchw.new_empty(self.head.rpn.post_nms_top_n() * len(x_bchw), maps[0].shape[1], REGION, REGION)
        parts += _tensors(roi.box_predictor(roi.box_head(regions)))
        detections, width = roi.detections_per_img * len(x_bchw), maps[0].shape[1]
        if roi.has_mask():
            areas = x_bchw.new_empty(detections, width, MASK_REGION, MASK_REGION)
            parts += _tensors(roi.mask_predictor(roi.mask_head(areas)))
        if roi.has_keypoint():
            areas = x_bchw.new_empty(detections, width, POINT_REGION, POINT_REGION)
            parts += _tensors(roi.keypoint_predictor(roi.keypoint_head(areas)))
        return torch.cat([value.flatten() for value in parts])


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in (value.values() if isinstance(value, Mapping) else value) for tensor in _tensors(part)]


def _as_it_is(data_spec: DataSpec) -> dict[str, Any]:
    """Arguments with which torchvision neither resizes nor normalises."""
    height, width = data_spec.image_size
    channels = data_spec.in_channels
    plain = {"image_mean": [0.0] * channels, "image_std": [1.0] * channels}
    return {"min_size": min(height, width), "max_size": max(height, width), **plain}


def _strides(spec: PyramidDetectorSpec, maps: Sequence[EncoderMap], data_spec: DataSpec) -> list[int]:
    strides = [stride_of(offered, data_spec) for offered in maps]
    return [*strides, *(strides[-1] << number for number in range(1, spec.extra_levels + 1))]


def _anchors(spec: PyramidDetectorSpec, sides: Sequence[Sequence[float]], ratios: Sequence[float], levels: int) -> Any:
    """Anchors of each level's sides; on a single map those of all."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    rows = [tuple(row) for row in sides] if spec.fpn else [tuple(side for row in sides for side in row)]
    rows += [rows[-1]] * (levels - len(rows))
    return AnchorGenerator(tuple(rows), (tuple(ratios),) * len(rows))


def _levels(spec: PyramidDetectorSpec, maps: Sequence[EncoderMap]) -> int:
    return (len(maps) if spec.fpn else 1) + spec.extra_levels


def points_per_object(data_spec: DataSpec) -> int:
    """How many points a network finds of each object: as many as the data have; without any COCO's of a person.

    Args:
        data_spec: The data that it is for.
    """
    return len(PERSON if data_spec.points is None else data_spec.points.names)


def _faster_rcnn(spec: Any, data_spec: DataSpec, pyramid: MapPyramid, maps: Sequence[EncoderMap]) -> Any:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign

    names = [str(number) for number in range(len(maps) if spec.fpn else 1)]
    sides = [[spec.anchor_scale * stride] for stride in _strides(spec, maps, data_spec)]
    arguments = {
        "rpn_anchor_generator": _anchors(spec, sides, spec.anchor_ratios, _levels(spec, maps)),
        "box_roi_pool": MultiScaleRoIAlign(names, REGION, 2),
        "box_head": TwoMLPHead(spec.head_width * REGION**2, spec.hidden),
        "rpn_post_nms_top_n_train": spec.proposals,
        "rpn_post_nms_top_n_test": spec.proposals,
        "box_score_thresh": spec.score_threshold,
        "box_nms_thresh": spec.nms_threshold,
        "box_detections_per_img": spec.max_detections,
        **_as_it_is(data_spec),
    }
    classes = data_spec.num_classes + 1
    arguments["box_predictor"] = FastRCNNPredictor(spec.hidden, classes)
    if isinstance(spec, MaskRCNNSpec):
        return _mask_rcnn(spec, classes, pyramid, names, arguments)
    if isinstance(spec, KeypointRCNNSpec):
        return _keypoint_rcnn(spec, points_per_object(data_spec), pyramid, names, arguments)
    return FasterRCNN(pyramid, **arguments)


def _mask_rcnn(
    spec: MaskRCNNSpec, classes: int, pyramid: MapPyramid, names: list[str], arguments: dict[str, Any]
) -> Any:
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    return MaskRCNN(
        pyramid,
        mask_roi_pool=MultiScaleRoIAlign(names, MASK_REGION, 2),
        mask_head=MaskRCNNHeads(spec.head_width, [spec.mask_width] * 4, 1),
        mask_predictor=MaskRCNNPredictor(spec.mask_width, spec.mask_width, classes),
        **arguments,
    )


def _keypoint_rcnn(
    spec: KeypointRCNNSpec, points: int, pyramid: MapPyramid, names: list[str], arguments: dict[str, Any]
) -> Any:
    from torchvision.models.detection import KeypointRCNN
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    return KeypointRCNN(
        pyramid,
        keypoint_roi_pool=MultiScaleRoIAlign(names, POINT_REGION, 2),
        keypoint_head=KeypointRCNNHeads(spec.head_width, [spec.keypoint_width] * spec.keypoint_layers),
        keypoint_predictor=KeypointRCNNPredictor(spec.keypoint_width, points),
        **arguments,
    )


def _retinanet(spec: Any, data_spec: DataSpec, pyramid: MapPyramid, maps: Sequence[EncoderMap]) -> Any:
    from torchvision.models.detection import RetinaNet

    octaves = [2 ** (number / spec.octaves) for number in range(spec.octaves)]
    strides = _strides(spec, maps, data_spec)
    sides = [[spec.anchor_scale * stride * octave for octave in octaves] for stride in strides]
    anchors = _anchors(spec, sides, spec.anchor_ratios, _levels(spec, maps))
    network = RetinaNet(pyramid, data_spec.num_classes, anchor_generator=anchors, **_one_stage(spec, data_spec))
    for part in (network.head.classification_head, network.head.regression_head):
        init_weights(part.conv, "he_fan_in")  # with torchvision's 0.01 a narrow head passes on nothing of what it sees
    return network


def _fcos(spec: Any, data_spec: DataSpec, pyramid: MapPyramid, maps: Sequence[EncoderMap]) -> Any:
    from torchvision.models.detection import FCOS

    strides = _strides(spec, maps, data_spec)
    sides = [[stride] for stride in (strides if spec.fpn else strides[-1 - spec.extra_levels :])]
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    anchors = AnchorGenerator(tuple(map(tuple, sides)), ((1.0,),) * len(sides))
    return FCOS(pyramid, data_spec.num_classes, anchor_generator=anchors, **_one_stage(spec, data_spec))


def _one_stage(spec: PyramidDetectorSpec, data_spec: DataSpec) -> dict[str, Any]:
    return {
        "score_thresh": spec.score_threshold,
        "nms_thresh": spec.nms_threshold,
        "detections_per_img": spec.max_detections,
        **_as_it_is(data_spec),
    }


def _ssd(spec: Any, data_spec: DataSpec, pyramid: MapPyramid, maps: Sequence[EncoderMap]) -> Any:
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    levels = len(maps) + spec.extra_levels
    boxes = DefaultBoxGenerator([[2, 3]] * levels, min_ratio=spec.smallest_box, max_ratio=spec.largest_box)
    arguments = {key: value for key, value in _one_stage(spec, data_spec).items() if not key.endswith("_size")}
    return SSD(pyramid, boxes, data_spec.image_size[::-1], data_spec.num_classes + 1, **arguments)


MAKERS: dict[type, Callable[[Any, DataSpec, MapPyramid, Sequence[EncoderMap]], Any]] = {
    FasterRCNNSpec: _faster_rcnn,
    MaskRCNNSpec: _faster_rcnn,
    KeypointRCNNSpec: _faster_rcnn,
    RetinaNetSpec: _retinanet,
    FCOSSpec: _fcos,
    SSDSpec: _ssd,
}
"""What puts the head of each spec together."""


def build(spec: PyramidDetectorSpec, data_spec: DataSpec) -> HeadedDetector:
    """The detector of ``spec``: images and targets -> losses, images -> boxes.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The backbone makes no maps of such images.
    """
    return HeadedDetector(spec, data_spec)


class PackageDetector(nn.Module):
    """A whole detector of torchvision.

    Args:
        network: The detector.
        background: How many classes it has before the first of ours.
    """

    def __init__(self, network: nn.Module, background: int) -> None:
        super().__init__()
        self.network, self.background = network, background
        heads = getattr(network, "roi_heads", None)
        self.needs_instances = getattr(heads, "mask_head", None) is not None
        self.needs_points = getattr(heads, "keypoint_head", None) is not None

    def forward(self, x_bchw: Tensor, targets: Sequence[Target] | None = None) -> Any:
        """Images, and in train mode their targets -> losses by name, or boxes of each image."""
        if x_bchw.is_meta:  # for counting: what a head does depends on what is predicted
            backbone: Any = self.network.backbone
            return torch.cat([value.flatten() for value in backbone(x_bchw).values()])
        return called(self.network, x_bchw, targets, self.background)


def build_package_detector(name: str, given: Mapping[str, Any], data_spec: DataSpec) -> PackageDetector:
    """A detector of torchvision with fresh weights.

    Args:
        name: Its name there.
        given: The arguments that the file gives.
        data_spec: The images and classes that it is for.
    """
    from torchvision.models import get_model_builder

    background = 0 if name.startswith(("retinanet", "fcos")) else 1
    arguments = _as_it_is(data_spec)
    if name.startswith("ssd"):  # these resize images to the size in their name
        arguments = {key: value for key, value in arguments.items() if key.startswith("image_")}
    make = get_model_builder(name)
    fixed = {"weights": None, "weights_backbone": None, "num_classes": data_spec.num_classes + background}
    if name.startswith("keypointrcnn"):
        fixed["num_keypoints"] = points_per_object(data_spec)
    return PackageDetector(make(**fixed, **(arguments | dict(given))), background)


def package_detector_parameters(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of torchvision's detector that a file may give.

    Args:
        name: Its name there.
    """
    from torchvision.models import detection

    classes = {"fasterrcnn": detection.FasterRCNN, "maskrcnn": detection.MaskRCNN, "retinanet": detection.RetinaNet}
    classes |= {"keypointrcnn": detection.KeypointRCNN, "fcos": detection.FCOS}
    cls = classes.get(name.partition("_")[0], detection.ssd.SSD)
    plain = inspect.signature(cls).parameters
    usable = {key: value for key, value in plain.items() if isinstance(value.default, int | float | str)}
    return dict(sorted(usable.items()))
