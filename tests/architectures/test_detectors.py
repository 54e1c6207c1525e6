"""Detectors: counts as published, torchvision's own beside ours, what is frozen, and what is refused by name."""

import json

import pytest
import torch
import torchvision

from expflow.architectures import build
from expflow.architectures.accounting import count_parameters
from expflow.architectures.detr import corners, generalised_iou
from expflow.architectures.specs.detection_names import TORCHVISION_DETECTION
from expflow.config import load
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.keypoint_layout import KeypointLayout
from expflow.errors import ExperimentInvalid
from expflow.registry import MODELS
from tests.architectures.nets import data, meta, params


def spec(name, **keys):
    return MODELS.spec(name).model_validate_json(json.dumps({"name": name, **keys}))


def count(name, classes, size=224, **keys):
    return params(meta(spec(name, **keys), data(size=size, classes=classes)))


def test_detr_has_as_many_parameters_as_published():
    """41,302,368 of them train in its authors' logs, which fix the stem and the first stage, 222,400 more."""
    assert count("detr", 91, frozen_norms=True) == 41_302_368 + 222_400
    assert count("detr", 2, frozen_norms=True) == 41_501_895


@pytest.mark.parametrize(("classes", "published"), [(90, 35_641_826), (20, 26_285_486)])
def test_ssd300_has_as_many_parameters_as_published(classes, published):
    assert count("torchvision/ssd300_vgg16", classes, size=300) == published


@pytest.mark.parametrize(
    ("ours", "theirs", "background", "extra"),
    [
        ("faster_rcnn", "fasterrcnn_resnet50_fpn", 1, 1),
        ("mask_rcnn", "maskrcnn_resnet50_fpn", 1, 1),
        ("keypoint_rcnn", "keypointrcnn_resnet50_fpn", 1, 1),
        ("retinanet", "retinanet_resnet50_fpn", 0, 2),
        ("fcos", "fcos_resnet50_fpn", 0, 2),
    ],
)
def test_a_head_on_our_resnet_is_as_large_as_torchvisions_whole_network(ours, theirs, background, extra):
    with torch.device("meta"):
        make = torchvision.models.get_model
        whole = make(theirs, weights=None, weights_backbone=None, num_classes=10 + background)
    assert count(ours, 10, backbone="resnet50", extra_levels=extra) == count_parameters(whole)
    assert count(f"torchvision/{theirs}", 10) == count_parameters(whole)


def test_keypoint_rcnn_has_as_many_parameters_as_published():
    """Of its weights for people, 17 points of one class, whose batch norms are frozen and have no parameters."""
    published = torchvision.models.get_weight("KeypointRCNN_ResNet50_FPN_Weights.COCO_V1").meta["num_params"]
    assert published == 59_137_258
    assert count("keypoint_rcnn", 1, backbone="resnet50", extra_levels=1, frozen_norms=True) == published
    norms = 2 * 26_560  # weights and biases of ResNet-50's
    assert count("torchvision/keypointrcnn_resnet50_fpn", 1) == published + norms


@pytest.mark.parametrize("name", ["keypoint_rcnn", "torchvision/keypointrcnn_resnet50_fpn"])
def test_as_many_points_are_found_as_the_data_have(name):
    keys = {"backbone": "resnet50"} if name == "keypoint_rcnn" else {}
    images = data(size=64, classes=1)
    points = FieldSpec((2, 5, 3), "float32", kind="keypoints", points=KeypointLayout(tuple("abcde")))
    pointed = DataSpec({**images.fields, "keypoints": points}, images.classes)
    five, seventeen = (params(meta(spec(name, **keys), spec_of)) for spec_of in (pointed, images))
    assert seventeen - five == 12 * (512 * 4 * 4 + 1), "a transposed convolution of 4x4 and a bias for each point"


@pytest.mark.parametrize(
    ("name", "instances", "points"),
    [("fasterrcnn", False, False), ("maskrcnn", True, False), ("keypointrcnn", False, True)],
)
def test_a_whole_network_asks_for_the_truth_that_it_learns_and_no_other(name, instances, points):
    network = meta(spec(f"torchvision/{name}_resnet50_fpn"), data(size=64, classes=1))
    assert (network.needs_instances, network.needs_points) == (instances, points)


def test_torchvision_registers_the_detectors_that_are_named():
    names = torchvision.models.list_models(module=torchvision.models.detection)
    assert set(names) == {*TORCHVISION_DETECTION}


def test_frozen_norms_have_no_parameters_and_keep_their_statistics():
    keys = {"backbone": "resnet", "layout": [1, 1], "width": 4, "head_width": 4, "smallest_stride": 1}
    small = data(size=32, classes=3)
    free, frozen = (build(spec("retinanet", frozen_norms=fixed, **keys), small) for fixed in (False, True))
    assert count_parameters(free) > count_parameters(frozen)
    before = {name: value.clone() for name, value in frozen.named_buffers() if "running" in name}
    assert before
    targets = [{"boxes": torch.tensor([[2.0, 2, 20, 20]]), "labels": torch.tensor([1])}]
    frozen.train()(torch.randn(1, 3, 32, 32), targets)
    assert all(torch.equal(value, dict(frozen.named_buffers())[name]) for name, value in before.items())


def test_the_generalised_overlap_is_torchvisions():
    generator = torch.Generator().manual_seed(0)
    boxes, others = (corners(torch.rand(n, 4, generator=generator)) for n in (5, 7))
    assert torch.allclose(generalised_iou(boxes, others), torchvision.ops.generalized_box_iou(boxes, others), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        ("retinanet", "classification", "retinanet gives boxes with classes and scores, and the task classification"),
        ("torchvision/ssd300_vgg16", "classification", "ssd300_vgg16 gives boxes with classes and scores"),
        ("resnet18", "detection", "resnet gives one score for each class of an image, and the task detection needs"),
        ("unet", "detection", "unet gives a score for each class at every pixel, and the task detection needs boxes"),
        ("{name: retinanet, backbone: unet}", "detection", "unet is no network that classifies images"),
        (
            "{name: retinanet, backbone: resnet19}",
            "detection",
            "no network of ours is named 'resnet19'; nearest: resnet18",
        ),
        (
            "{name: fcos, head_width: 48}",
            "detection",
            "its norms have 32 groups; expected a multiple of 32; nearest: 32",
        ),
        ("torchvision/keypointrcnn_resnet50_fpn", "classification", "keypointrcnn_resnet50_fpn gives boxes with"),
        ("torchvision/fasterrcnn_resnet51", "detection", "nearest: torchvision/fasterrcnn_resnet50_fpn"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(model, task, message, tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(f"data: {{name: digit_scenes, truth: boxes}}\nmodel: {model}\ntask: {task}\noptimizer: sgd\n")
    with pytest.raises(ExperimentInvalid) as raised:
        load(file)
    assert message in str(raised.value)
