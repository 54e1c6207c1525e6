"""Boxes and instances go where their images go: as torchvision's tv_tensors do, and as must hold of every sample."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from expflow.data.augment import pipeline_for, sample_random
from expflow.data.augment.geometry import evaluation_view, random_crop_view
from expflow.data.augment.sizes import image_sizes
from expflow.data.augment.specs import AugmentedSourceSpec, RandomResizedCrop
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.kinds import encode
from expflow.data.kinds.boxes import NO_BOX, ObjectBoxes, label_code
from expflow.data.sources.base import file_fields, image_fields, with_boxes
from expflow.data.sources.digit_scenes import outlined

MOST = 6
SPATIAL = {"random_resized_crop": {"probability": 0.7}, "pad_and_crop": 5, "flip": 0.5}
EVERYTHING = {**SPATIAL, "rand_augment": {}, "color_jitter": {"hue": 0.3}, "random_erasing": 1.0}
SIDES, IDS = st.integers(24, 70), st.integers(0, 10**6)


def pipeline(height, width, *, varies, training=True, seed=0, **keys):
    described = with_boxes(file_fields(3) if varies else image_fields(3, height, width), MOST, instances=True)
    data = DataSpec(described["shapes"], tuple("abcdefgh"), mean=(0.5,) * 3)
    spec = AugmentedSourceSpec.model_validate({"name": "x", **keys})
    return described["fields"], pipeline_for(described["fields"], data, spec, training=training, seed=seed)


def drawn(height, width, seed):
    """Rectangles, some of which cover others, in an image whose every channel tells which is seen where."""
    random = np.random.default_rng(seed)
    number = int(random.integers(0, MOST + 1))
    painted = np.zeros((height, width), np.int32)
    for place in range(1, number + 1):
        (top, bottom), (left, right) = (np.sort(random.choice(side + 1, 2, replace=False)) for side in (height, width))
        painted[top:bottom, left:right] = place
    boxes, instances = outlined(painted, random.integers(0, 8, number).tolist())
    pixels = (40 * instances).astype(np.uint8)
    return np.stack([pixels] * 3, 2), boxes, instances


def made(fields, made_by, sample, id=0, epoch=0):
    image, boxes, instances = sample
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    values = {"image": buffer.getvalue(), "instances": encode("instances.png", instances)}
    members = {name: memoryview(values.get(name) or encode("boxes.json", boxes)) for name in fields}
    out = {name: np.zeros(shape, dtype) for name, (shape, dtype) in made_by.shapes.items()}
    made_by.sample(members, epoch, id, out)
    return out


def sanitised(boxes, labels, canvas):
    """Torchvision's: clipped, and those under a pixel left out with their labels."""
    inside = v2.functional.clamp_bounding_boxes(tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas))
    kept = v2.SanitizeBoundingBoxes(min_size=1)({"boxes": inside, "labels": torch.as_tensor(labels)})
    return np.asarray(kept["boxes"]), np.asarray(kept["labels"])


def assert_boxes(out, boxes, labels):
    count = len(labels)
    assert out["box_label"][:count].tolist() == list(labels)
    assert np.allclose(out["boxes"][:count], boxes, atol=1e-3)
    assert (out["box_label"][count:] == NO_BOX).all()
    assert (out["boxes"][count:] == 0).all()


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(8, 40), IDS)
def test_a_random_crop_of_boxes_is_torchvisions(height, width, size, id):
    sample = drawn(height, width, id)
    key = sample_random.sample_key(3, 0, id)
    box = random_crop_view((height, width), (size, size), RandomResizedCrop(), key).box
    keys = {"image_size": size, "train": {"random_resized_crop": {}, "flip": 0.5, "min_visible": 0}}
    fields, cut = pipeline(height, width, varies=True, seed=3, **keys)
    whole = tv_tensors.BoundingBoxes(
        torch.tensor(sample[1].boxes), format="XYXY", canvas_size=(height, width), clamping_mode=None
    )
    part = v2.functional.resized_crop(whole, box.top, box.left, box.height, box.width, [size, size])
    if sample_random.uniform(key, sample_random.FLIP) < 0.5:
        part = v2.functional.horizontal_flip(part)
    assert_boxes(made(fields, cut, sample, id), *sanitised(part, sample[1].labels, (size, size)))


@settings(max_examples=40)
@given(SIDES, st.integers(0, 12), st.booleans(), IDS)
def test_padding_cropping_and_mirroring_of_boxes_are_torchvisions(side, pad, flip, id):
    sample = drawn(side, side + 3, id)
    key = sample_random.sample_key(1, 0, id)
    top, left = (sample_random.integer(key, sample_random.PAD + axis, 2 * pad + 1) for axis in (0, 1))
    keys = {"pad_and_crop": pad, "flip": float(flip), "min_visible": 0}
    fields, cut = pipeline(side, side + 3, varies=False, seed=1, train=keys)
    part = tv_tensors.BoundingBoxes(
        torch.tensor(sample[1].boxes), format="XYXY", canvas_size=(side, side + 3), clamping_mode=None
    )
    part = v2.functional.crop(v2.functional.pad(part, [pad] * 4), top, left, side, side + 3)
    part = v2.functional.horizontal_flip(part) if flip else part
    assert_boxes(made(fields, cut, sample, id), *sanitised(part, sample[1].labels, (side, side + 3)))


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(8, 40), IDS, st.booleans(), st.sampled_from([0.0, 0.1, 0.5]))
def test_instances_and_boxes_agree_and_colours_leave_them_alone(height, width, size, id, training, min_visible):
    sample = drawn(height, width, id)
    options = {"varies": True, "training": training, "image_size": size}
    out = made(*pipeline(height, width, train={**EVERYTHING, "min_visible": min_visible}, **options), sample, id)
    count = int((out["box_label"] != NO_BOX).sum())
    boxes, instances = out["boxes"][:count], out["instances"]
    assert instances.shape == out["image"].shape[1:] == (size, size)
    assert set(np.unique(instances)) <= set(range(count + 1))
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        assert 0 <= x0 <= x1 - 1 <= size - 1
        assert 0 <= y0 <= y1 - 1 <= size - 1
        rows, columns = np.nonzero(instances == number)
        if len(rows):  # the nearest pixel lies within half a pixel of the object's edge
            assert (columns.min() >= x0 - 1) & (columns.max() <= x1)
            assert (rows.min() >= y0 - 1) & (rows.max() <= y1)
    alone = made(*pipeline(height, width, train={**SPATIAL, "min_visible": min_visible}, **options), sample, id)
    assert all(np.array_equal(out[name], alone[name]) for name in out if name != "image")
    areas = sample[1].areas
    assert set(out["box_area"][:count]) <= set(areas), "the original's areas stay"


@settings(max_examples=20)
@given(SIDES, IDS, st.sampled_from([0.3, 0.7]))
def test_a_box_of_which_too_little_is_left_goes_with_its_label(side, id, min_visible):
    key = sample_random.sample_key(1, 0, id)
    top, left = (sample_random.integer(key, sample_random.PAD + axis, 2 * 12 + 1) - 12 for axis in (0, 1))
    sample = drawn(side, side, id)
    fields, cut = pipeline(side, side, varies=False, seed=1, train={"pad_and_crop": 12, "min_visible": min_visible})
    moved = sample[1].boxes - np.asarray([left, top] * 2)
    inside = moved.clip(0, side)
    share = (inside[:, 2:] - inside[:, :2]).prod(1) / (moved[:, 2:] - moved[:, :2]).prod(1)
    kept = (share >= min_visible) & ((inside[:, 2:] - inside[:, :2]) >= 1).all(1)
    assert_boxes(made(fields, cut, sample, id), inside[kept], sample[1].labels[kept])


@settings(max_examples=20)
@given(st.integers(24, 40), st.sampled_from([{"pad_and_crop": 3, "flip": 0.5}, EVERYTHING]), st.integers(0, 1000))
def test_decoded_samples_change_as_stored_ones_do(side, train, epoch):
    fields, changed_by = pipeline(side, side, varies=False, seed=5, train=train)
    _, stored = pipeline(side, side, varies=False, training=False)
    samples = [drawn(side, side, number) for number in range(3)]
    decoded = [made(fields, stored, sample, number) for number, sample in enumerate(samples)]
    arrays = {name: np.stack([sample[name] for sample in decoded]) for name in fields}
    batch = changed_by.batch(arrays, epoch, np.arange(3))
    for number, sample in enumerate(samples):
        one = made(fields, changed_by, sample, number, epoch)
        assert all(np.array_equal(batch[name][number], one[name]) for name in fields)


def test_evaluation_measures_boxes_of_a_shrunk_photograph_in_its_own_pixels():
    keys = {"image_size": 20, "eval": {"resize": 25}}
    sample = drawn(50, 75, 4)
    view = evaluation_view((50, 75), image_sizes(None, AugmentedSourceSpec.model_validate({"name": "x", **keys})))
    out = made(*pipeline(50, 75, varies=True, training=False, **keys), sample)
    assert view.resized == (25, 37)
    assert out["box_scale"] == pytest.approx((50 * 75 / (25 * 37)) ** 0.5)
    assert set(out["box_area"]) <= {*sample[1].areas.tolist(), 0}


def test_the_member_keeps_all_there_is_to_know_and_names_what_is_wrong():
    labels = [3, label_code(2, crowd=True), label_code(1, difficult=True)]
    boxes = ObjectBoxes.of([[0, 1, 4, 5], [2, 2, 9, 3], [0, 0, 1, 1.5]], labels, [7.5, np.nan, np.nan], scale=2.0)
    from expflow.data.kinds import decode

    again = decode("boxes.json", encode("boxes.json", boxes))
    assert (again.labels.tolist(), again.areas.tolist(), again.scale) == (labels, [7.5, 28.0, 6.0], 2.0)
    for content, message in (
        (b"[]", 'expected {"boxes"'),
        (b'{"boxes": [{"box": [0, 0, 1], "class": 1}]}', r"box 0: expected \[left, top, right, bottom\]"),
        (b'{"boxes": [{"box": [3, 0, 3, 2], "class": 1}]}', "box 0: .* has no area"),
        (b'{"boxes": [{"box": [0, 0, 1, 1], "class": -1}]}', "box 0: expected the number of a class"),
        (b'{"boxes": [{"box": [0, 0, 1, 1], "label": 1}]}', "box 0: expected box, class"),
        (b'{"boxes": [], "scale": 0}', "scale: expected a number above 0"),
        (b"{", "no JSON"),
    ):
        with pytest.raises(ValueError, match=message):
            decode("boxes.json", content)


def test_more_boxes_than_the_manifest_says_are_refused():
    fields, made_by = pipeline(30, 30, varies=False)
    boxes = ObjectBoxes.of([[0, 0, 2, 2]] * (MOST + 1), [0] * (MOST + 1))
    with pytest.raises(ValueError, match=f"{MOST + 1} boxes in a sample, and the manifest says {MOST}"):
        made(fields, made_by, (np.zeros((30, 30, 3), np.uint8), boxes, np.zeros((30, 30), np.int32)))


def test_the_fields_of_boxes_have_no_other_size_than_the_manifests():
    field = FieldSpec((4, 4), "float32", kind="boxes")
    assert field.resized(7, 9) == field


@settings(max_examples=50)
@given(SIDES, SIDES, IDS)
def test_a_letterbox_keeps_every_object_and_moves_its_box_as_its_pixels(height, width, id):
    sample = drawn(height, width, id)
    fields, boxed = pipeline(
        height, width, varies=True, training=False, image_size=2 * max(height, width), letterbox=True
    )
    out = made(fields, boxed, sample, id)
    count = int((out["box_label"] != NO_BOX).sum())
    assert count == len(sample[1].boxes)
    for number in range(count):
        rows, columns = np.nonzero(out["instances"] == number + 1)
        corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(out["boxes"][number] - corners).max() <= 1
