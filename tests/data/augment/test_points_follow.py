"""Keypoints go where their images go: as torchvision's tv_tensors do, with sides exchanged in a mirror."""

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
from expflow.data.augment.geometry import random_crop_view
from expflow.data.augment.specs import AugmentedSourceSpec, RandomResizedCrop
from expflow.data.dataspec import DataSpec
from expflow.data.keypoint_layout import PERSON, KeypointLayout, mirrored_points
from expflow.data.kinds import decode, encode
from expflow.data.kinds.boxes import NO_BOX, ObjectBoxes
from expflow.data.sources.base import file_fields, image_fields, with_boxes
from expflow.errors import UserError

MOST, ORDER = 4, [0, 2, 1, 3]
FACE = KeypointLayout(("nose", "left_eye", "right_eye", "chin"), ((0, 1), (0, 2)), tuple(ORDER))
SIDES, IDS = st.integers(24, 70), st.integers(0, 10**6)
SPATIAL = {"random_resized_crop": {"probability": 0.7}, "pad_and_crop": 5, "flip": 0.5}


def pipeline(height, width, *, varies, training=True, seed=0, layout=FACE, **keys):
    described = with_boxes(file_fields(3) if varies else image_fields(3, height, width), MOST, points=layout)
    data = DataSpec(described["shapes"], ("face",), mean=(0.5,) * 3)
    spec = AugmentedSourceSpec.model_validate({"name": "x", **keys})
    return described["fields"], pipeline_for(described["fields"], data, spec, training=training, seed=seed)


def drawn(height, width, seed):
    """An image and objects with points anywhere in it, some hidden and some not known."""
    random = np.random.default_rng(seed)
    number = int(random.integers(0, MOST + 1))
    corners = np.sort(random.uniform(0, 1, (number, 2, 2)), 1) * [width, height]
    boxes = np.concatenate([corners[:, 0], corners[:, 1] + 0.1], 1).clip(0, [width, height] * 2)
    places = random.uniform(0, 1, (number, 4, 2)) * [width, height]
    visibility = random.integers(0, 3, (number, 4, 1))
    points = np.where(visibility > 0, np.concatenate([places, visibility], -1), 0)
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, ObjectBoxes.of(boxes, [0] * number, points=points if number else None)


def made(fields, made_by, sample, id=0, epoch=0):
    buffer = io.BytesIO()
    Image.fromarray(sample[0]).save(buffer, "PNG")
    boxes = encode("boxes.json", sample[1])
    members = {name: memoryview(buffer.getvalue() if name == "image" else boxes) for name in fields}
    out = {name: np.zeros(shape, dtype) for name, (shape, dtype) in made_by.shapes.items()}
    made_by.sample(members, epoch, id, out)
    return out


def as_tensor(points, canvas):
    return tv_tensors.KeyPoints(torch.tensor(points[..., :2], dtype=torch.float64), canvas_size=canvas)


def mirrored(points):
    """Torchvision's mirror takes coordinates for numbers of pixels; here they are places, half a pixel further."""
    return v2.functional.horizontal_flip(tv_tensors.wrap(points - 0.5, like=points)) + 0.5


def assert_points(out, expected, visibility, kept, size, *, flip):
    """The kept boxes' points are where torchvision moved them; those outside are not known, and all else is empty."""
    places = np.asarray(expected)[kept]
    inside = ((places >= 0) & (places <= [size[1], size[0]])).all(-1) & (visibility[kept] > 0)
    wanted = np.where(inside[..., None], np.concatenate([places, visibility[kept][..., None]], -1), 0)
    wanted = wanted[:, ORDER] if flip else wanted
    assert out["keypoints"].shape == (MOST, 4, 3)
    assert (out["box_label"] != NO_BOX).sum() == kept.sum()
    assert np.allclose(out["keypoints"][: len(wanted)], wanted, atol=1e-3)
    assert (out["keypoints"][len(wanted) :] == 0).all()


def points_in(boxes):
    return np.zeros((0, 4, 3)) if boxes.points is None else boxes.points


def kept_boxes(boxes, moved_to, size):
    """Which boxes keep a pixel in both directions, by torchvision."""
    tensor = tv_tensors.BoundingBoxes(
        torch.tensor(boxes.boxes, dtype=torch.float64), format="XYXY", canvas_size=(1, 1), clamping_mode=None
    )
    moved = np.asarray(moved_to(tensor)).clip(0, [size[1], size[0]] * 2)
    return ((moved[:, 2:] - moved[:, :2]) >= 1).all(1) if len(moved) else np.zeros(0, bool)


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(8, 40), IDS)
def test_a_random_crop_of_points_is_torchvisions(height, width, size, id):
    sample = drawn(height, width, id)
    key = sample_random.sample_key(3, 0, id)
    box = random_crop_view((height, width), (size, size), RandomResizedCrop(), key).box
    keys = {"image_size": size, "train": {"random_resized_crop": {}, "flip": 0.5, "min_visible": 0}}
    fields, cut = pipeline(height, width, varies=True, seed=3, **keys)
    crop = (box.top, box.left, box.height, box.width, [size, size])
    points = points_in(sample[1])
    part = v2.functional.resized_crop(as_tensor(points, (height, width)), *crop)
    flip = sample_random.uniform(key, sample_random.FLIP) < 0.5
    kept = kept_boxes(sample[1], lambda boxes: v2.functional.resized_crop(boxes, *crop), (size, size))
    part = mirrored(part) if flip else part
    assert_points(made(fields, cut, sample, id), part, points[..., 2], kept, (size, size), flip=flip)


@settings(max_examples=40)
@given(SIDES, st.integers(0, 12), st.booleans(), IDS)
def test_padding_cropping_and_mirroring_of_points_are_torchvisions(side, pad, flip, id):
    size, sample = (side, side + 3), drawn(side, side + 3, id)
    key = sample_random.sample_key(1, 0, id)
    top, left = (sample_random.integer(key, sample_random.PAD + axis, 2 * pad + 1) for axis in (0, 1))
    keys = {"pad_and_crop": pad, "flip": float(flip), "min_visible": 0}
    fields, cut = pipeline(*size, varies=False, seed=1, train=keys)

    def moved(tensor):
        return v2.functional.crop(v2.functional.pad(tensor, [pad] * 4), top, left, *size)

    points = points_in(sample[1])
    part = moved(as_tensor(points, size))
    part = mirrored(part) if flip else part
    kept = kept_boxes(sample[1], moved, size)
    assert_points(made(fields, cut, sample, id), part, points[..., 2], kept, size, flip=flip)


@settings(max_examples=40)
@given(SIDES, SIDES, st.integers(8, 40), IDS, st.booleans())
def test_points_lie_in_the_image_and_colours_leave_them_alone(height, width, size, id, training):
    sample, options = drawn(height, width, id), {"varies": True, "training": training, "image_size": size}
    everything = {**SPATIAL, "rand_augment": {}, "color_jitter": {"hue": 0.3}, "random_erasing": 1.0}
    out = made(*pipeline(height, width, train=everything, **options), sample, id)
    points = out["keypoints"]
    assert ((points[..., :2] >= 0) & (points[..., :2] <= size)).all()
    assert set(np.unique(points[..., 2])) <= {0, 1, 2}
    assert (points[points[..., 2] == 0] == 0).all()
    assert (points[out["box_label"] == NO_BOX] == 0).all(), "a box that goes takes its points with it"
    alone = made(*pipeline(height, width, train=SPATIAL, **options), sample, id)
    assert np.array_equal(points, alone["keypoints"])


@settings(max_examples=30)
@given(SIDES, SIDES, IDS)
def test_a_letterbox_keeps_every_point(height, width, id):
    sample, side = drawn(height, width, id), 2 * max(height, width)
    fields, boxed = pipeline(height, width, varies=True, training=False, image_size=side, letterbox=True)
    out, points = made(fields, boxed, sample, id), points_in(sample[1])
    kept = out["keypoints"][: len(points)]
    boxes = sample[1].boxes
    if ((boxes[:, 2:] - boxes[:, :2]) * 2 < 1.01).any():
        return  # a box of less than a pixel goes with its points
    assert np.array_equal(kept[..., 2], points[..., 2])
    known = points[..., 2] > 0
    assert np.allclose(
        kept[known][:, :2] - points[known][:, :2] * 2, [(side - 2 * width) / 2, (side - 2 * height) / 2], atol=1
    )


@settings(max_examples=15)
@given(st.integers(24, 40), st.integers(0, 1000))
def test_decoded_samples_change_as_stored_ones_do(side, epoch):
    fields, changed_by = pipeline(side, side, varies=False, seed=5, train={"pad_and_crop": 3, "flip": 0.5})
    _, stored = pipeline(side, side, varies=False, training=False)
    samples = [drawn(side, side, number) for number in range(3)]
    decoded = [made(fields, stored, sample, number) for number, sample in enumerate(samples)]
    batch = changed_by.batch({name: np.stack([s[name] for s in decoded]) for name in fields}, epoch, np.arange(3))
    for number, sample in enumerate(samples):
        one = made(fields, changed_by, sample, number, epoch)
        assert all(np.array_equal(batch[name][number], one[name]) for name in fields)


def test_a_mirrored_point_lies_on_the_same_pixel_of_the_mirrored_image():
    image = np.zeros((20, 30, 3), np.uint8)
    image[4, 7] = 255
    fields, flipped = pipeline(20, 30, varies=False, train={"flip": 1.0})
    boxes = ObjectBoxes.of([[2, 2, 20, 18]], [0], points=[[[7.5, 4.5, 2], [3, 3, 2], [0, 0, 0], [9, 9, 1]]])
    out = made(fields, flipped, (image, boxes))
    x, y, _ = out["keypoints"][0, 0]
    assert out["image"][:, int(y), int(x)].tolist() == [255] * 3
    assert out["keypoints"][0, :, 2].tolist() == [2, 0, 2, 1], "the left eye that is known is a right one now"


def test_points_that_say_a_side_and_have_no_partner_cannot_be_mirrored():
    layout = KeypointLayout(("left_eye", "mouth"))
    with pytest.raises(UserError, match=r"data.train.flip: .* the points left_eye are of the other side"):
        pipeline(20, 20, varies=False, train={"flip": 0.5}, layout=layout)
    pipeline(20, 20, varies=False, train={"pad_and_crop": 2}, layout=layout)
    pipeline(20, 20, varies=False, train={"flip": 0.5}, layout=KeypointLayout(("tail", "bright", "upright_post")))


@pytest.mark.parametrize(
    ("names", "pairs", "expected"),
    [
        (PERSON, (), (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)),
        (("eyeLeft", "eyeRight", "LEFT HAND", "RIGHT HAND"), (), (1, 0, 3, 2)),
        (("l_eye", "r_eye", "leftmost", "rightmost", "ball", "rear"), (), (1, 0, 3, 2, 4, 5)),
        (("port", "starboard", "left_x"), (("port", "starboard"),), (1, 0, 2)),
    ],
)
def test_partners_differ_in_left_and_right_or_are_named(names, pairs, expected):
    assert mirrored_points(names, pairs) == expected


@pytest.mark.parametrize(
    ("pairs", "message"), [((("a", "z"),), "no point 'z'; the points are a, b, c"), ((("a", "b"), ("b", "c")), "two")]
)
def test_pairs_that_cannot_be_are_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        mirrored_points(("a", "b", "c"), pairs)


def test_the_member_keeps_points_and_names_what_is_wrong():
    points = np.float32([[[1, 2, 2], [3, 4, 0]], [[0, 0, 0], [2.5, 1, 1]]])
    boxes = ObjectBoxes.of([[0, 0, 4, 5], [1, 1, 3, 3]], [0, 1], points=points)
    again = decode("boxes.json", encode("boxes.json", boxes))
    assert again.points.tolist() == [[[1, 2, 2], [0, 0, 0]], [[0, 0, 0], [2.5, 1, 1]]]
    assert decode("boxes.json", b'{"boxes": [{"box": [0, 0, 1, 1], "class": 1}]}').points is None
    for rows, message in (
        (["[1, 2]"], r"box 0: points: expected numbers \[x, y, visibility, …\], three .*, found 2 values"),
        (['"all"'], "box 0: points: expected numbers .*, found 'all'"),
        (["[1, 2, 3]"], "box 0: points: point 0 has the visibility 3; expected 0"),
        (["[1, 2, 2]", "[1, 2, 2, 1, 2, 2]"], "points: expected as many of each box, found 1 and 2"),
    ):
        boxes = ", ".join(f'{{"box": [0, 0, 1, 1], "class": 1, "points": {row}}}' for row in rows)
        with pytest.raises(ValueError, match=message):
            decode("boxes.json", f'{{"boxes": [{boxes}]}}'.encode())


def test_another_number_of_points_than_the_manifests_is_refused():
    fields, made_by = pipeline(30, 30, varies=False)
    boxes = ObjectBoxes.of([[0, 0, 9, 9]], [0], points=[[[1, 1, 2]]])
    with pytest.raises(ValueError, match="1 points of an object, and the manifest says 4"):
        made(fields, made_by, (np.zeros((30, 30, 3), np.uint8), boxes))


def test_a_data_spec_keeps_its_points_and_one_without_is_written_as_before():
    described = with_boxes(image_fields(3, 8, 8), 2, points=FACE)
    data = DataSpec(described["shapes"], ("face",))
    assert DataSpec.from_json(data.to_json()) == data
    assert data.points == FACE
    plain = DataSpec(with_boxes(image_fields(3, 8, 8), 2)["shapes"], ("face",))
    assert plain.points is None
    assert all("points" not in field for field in plain.to_json()["fields"].values())
