"""Arguments of detectors. Torch-free: the networks are in ``expflow.architectures.detectors`` and ``detr``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from expflow.architectures.specs.backbone import WithBackboneSpec
from expflow.architectures.specs.limits import MAX_CHANNELS, MAX_LAYERS
from expflow.config.component_specs import ModelOutput
from expflow.config.spec import FieldError, identity

Ratio = Annotated[float, Field(gt=0)]


class DetectorSpec(WithBackboneSpec):
    """Base: a detector over a classification network of ours, whose layers keep their names; no network by itself.

    All but the backbone is the head: what was learned as a classification network is taken over with init.
    """

    gives: ClassVar[ModelOutput] = "boxes"

    frozen_norms: bool = identity(
        False,
        description="Whether the backbone's batch norms keep the statistics and factors they begin with, as is usual"
        " with a pretrained backbone and few images in a batch.",
    )
    score_threshold: float = identity(0.05, description="Boxes that are less sure are not predicted.", ge=0, lt=1)
    max_detections: int = identity(100, description="Boxes that are predicted for an image, at most.", ge=1, le=1000)


class PyramidDetectorSpec(DetectorSpec):
    """Base: a detector on several maps of its backbone; no network by itself."""

    fpn: bool = identity(
        True,
        description="Feature pyramid network (Lin et al. 2017, arXiv 1612.03144): each map is joined with the coarser"
        " ones and predicts objects of its size; without it the backbone's last map predicts all of them.",
    )
    head_width: int = identity(256, description="Channels of the maps that the head sees.", ge=1, le=MAX_CHANNELS)
    smallest_stride: int = identity(
        4, description="Finest map that is used, by the pixels that a value of it is apart.", ge=1, le=64
    )
    extra_levels: int = identity(0, description="Coarser maps that are made behind the last one.", ge=0, le=4)
    nms_threshold: float = identity(
        0.5, description="Of boxes of a class that overlap more, the surest alone is predicted.", gt=0, lt=1
    )


class AnchoredDetectorSpec(PyramidDetectorSpec):
    """Base: a detector that corrects anchors, boxes of given sizes and shapes; no network by itself."""

    anchor_scale: float = identity(
        8.0, description="Side of a map's anchors in units of its stride, before their shapes.", gt=0
    )
    anchor_ratios: tuple[Ratio, ...] = identity(
        (0.5, 1.0, 2.0), description="Height of anchors over their width.", min_length=1
    )


class FasterRCNNSpec(AnchoredDetectorSpec):
    """Faster R-CNN (Ren et al. 2015, arXiv 1506.01497): proposes regions, then classifies and corrects each of them."""

    build: ClassVar[str] = "expflow.architectures.detectors:build"

    hidden: int = identity(1024, description="Units of the two layers that see a region.", ge=1, le=MAX_CHANNELS)
    proposals: int = identity(1000, description="Regions of an image that are looked at.", ge=1, le=10_000)


class MaskRCNNSpec(FasterRCNNSpec):
    """Mask R-CNN (He et al. 2017, arXiv 1703.06870): Faster R-CNN with a mask for each object; data with instances."""

    mask_width: int = identity(256, description="Channels of the layers that make masks.", ge=1, le=MAX_CHANNELS)


class KeypointRCNNSpec(FasterRCNNSpec):
    """Keypoint R-CNN (He et al. 2017, arXiv 1703.06870, section 5): Faster R-CNN with the points of each object."""

    keypoint_width: int = identity(512, description="Channels of the layers that find points.", ge=1, le=MAX_CHANNELS)
    keypoint_layers: int = identity(8, description="How many of these layers there are.", ge=1, le=MAX_LAYERS)


class RetinaNetSpec(AnchoredDetectorSpec):
    """RetinaNet (Lin et al. 2017, arXiv 1708.02002): one stage, all anchors at once, with the focal loss."""

    build: ClassVar[str] = "expflow.architectures.detectors:build"

    anchor_scale: float = identity(
        4.0, description="Side of a map's smallest anchors in units of its stride, before their shapes.", gt=0
    )
    octaves: int = identity(3, description="Sizes of anchors on a map, up to twice the smallest.", ge=1, le=8)
    smallest_stride: int = identity(
        8, description="Finest map that is used, by the pixels that a value of it is apart.", ge=1, le=64
    )


class FCOSSpec(PyramidDetectorSpec):
    """FCOS (Tian et al. 2019, arXiv 1904.01355): one stage without anchors; each place predicts the box around it."""

    build: ClassVar[str] = "expflow.architectures.detectors:build"

    smallest_stride: int = identity(
        8, description="Finest map that is used, by the pixels that a value of it is apart.", ge=1, le=64
    )
    nms_threshold: float = identity(
        0.6, description="Of boxes of a class that overlap more, the surest alone is predicted.", gt=0, lt=1
    )

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        if self.head_width % 32:
            below = max(self.head_width // 32, 1) * 32
            raise FieldError("head_width", f"its norms have 32 groups; expected a multiple of 32; nearest: {below}")
        return self


class SSDSpec(PyramidDetectorSpec):
    """SSD (Liu et al. 2016, arXiv 1512.02325): one stage, default boxes on maps of falling size."""

    build: ClassVar[str] = "expflow.architectures.detectors:build"

    fpn: bool = identity(False, description="Whether the maps are joined as in a feature pyramid network first.")
    nms_threshold: float = identity(
        0.45, description="Of boxes of a class that overlap more, the surest alone is predicted.", gt=0, lt=1
    )
    smallest_box: float = identity(
        0.1, description="Side of the first map's default boxes, as a share of the image's.", gt=0, lt=1
    )
    largest_box: float = identity(
        0.9, description="Side of the last map's default boxes, as a share of the image's.", gt=0, le=1.5
    )

    @model_validator(mode="after")
    def _boxes_grow(self) -> Self:
        if self.smallest_box >= self.largest_box:
            raise FieldError("smallest_box", f"expected less than largest_box, {self.largest_box:g}")
        return self


class DETRSpec(DetectorSpec):
    """DETR (Carion et al. 2020, arXiv 2005.12872): a transformer that turns queries into a set of boxes."""

    build: ClassVar[str] = "expflow.architectures.detr:build"

    backbone: str = identity(
        "resnet50", description="A family or well-known name of ours that gives scores; its keys stand beside this one."
    )
    queries: int = identity(100, description="Boxes that are predicted, most of them as no object.", ge=1, le=1000)
    features: int = identity(256, description="Features of each token; divides by attention_heads.", ge=2, le=4096)
    attention_heads: int = identity(8, description="Attentions side by side in each layer.", ge=1, le=64)
    layers: int = identity(6, description="Layers of the encoder, and of the decoder.", ge=1, le=MAX_LAYERS)
    feedforward: int = identity(2048, description="Hidden units of each feed-forward layer.", ge=1, le=65_536)
    attention_dropout: float = identity(0.1, description="Probability to drop a value.", ge=0, lt=1)
    no_object_weight: float = identity(
        0.1, description="Weight of queries without an object in the loss of classes.", gt=0, le=1
    )
    auxiliary_losses: bool = identity(True, description="Whether every layer of the decoder learns from the truth.")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.features % self.attention_heads or self.features % 4:
            heads = self.attention_heads
            raise FieldError(
                "features", f"expected a multiple of 4 and of attention_heads, {heads}, found {self.features}"
            )
        return self
