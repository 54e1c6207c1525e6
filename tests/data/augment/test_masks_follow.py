"""Masks go where their images go: beside torchvision's tv_tensors, and by what must hold of every sample."""

import io

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from expflow.data.augment import pipeline_for, sample_random
from expflow.data.augment.geometry import evaluation_view, random_crop_view
from expflow.data.augment.sizes import image_sizes, inside_square
from expflow.data.augment.specs import AugmentedSourceSpec, RandomResizedCrop
from expflow.data.dataspec import VOID, DataSpec, FieldSpec
from expflow.data.kinds.mask import nearest_rows

VALUES = (0, 1, 2, 7, VOID)
FIELDS = {"mask": "mask.png", "image": "png"}
SPATIAL = {"random_resized_crop": {"probability": 0.7}, "pad_and_crop": 2, "flip": 0.5}
EVERYTHING = {**SPATIAL, "rand_augment": {}, "color_jitter": {"hue": 0.3}, "random_erasing": 1.0}
SIDES = st.integers(9, 70)
IDS = st.integers(0, 10**6)


def pipeline(height, width, *, varies, training=True, seed=0, **keys):
    size = (0, 0) if varies else (height, width)
    fields = {"image": FieldSpec((3, *size), "uint8", varies), "mask": FieldSpec(size, "uint8", varies, "mask")}
    data = DataSpec(fields, tuple("abcdefgh"), mean=(0.5,) * 3)
    spec = AugmentedSourceSpec.model_validate({"name": "x", **keys})
    return pipeline_for(FIELDS, data, spec, training=training, seed=seed)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return memoryview(buffer.getvalue())


def drawn(height, width, seed):
    """An image whose every channel is its mask: where the one goes, the other must go."""
    blocks = np.random.default_rng(seed).choice(VALUES, (-(-height // 4), -(-width // 4)))
    mask = np.kron(blocks, np.ones((4, 4), int))[:height, :width].astype(np.uint8)
    return np.stack([mask, mask, mask], 2), mask


def made(made_by, image, mask, id=0, epoch=0):
    out = {name: np.zeros(shape, dtype) for name, (shape, dtype) in made_by.shapes.items()}
    made_by.sample({"image": png(image), "mask": png(mask)}, epoch, id, out)
    return out


def nearest(mask, size):
    """Torchvision's resize of a mask by the pixel in the middle; its own for masks takes the one at the edge."""
    pixels = tv_tensors.Image(torch.as_tensor(mask).as_subclass(torch.Tensor)[None])
    return v2.functional.resize(pixels, list(size), v2.InterpolationMode.NEAREST_EXACT)[0]


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(4, 40), IDS)
def test_a_random_crop_of_a_mask_is_torchvisions(height, width, size, id):
    """Boxes with rows of which two are equally near are left out: torch decides about them by rounding."""
    key = sample_random.sample_key(3, 0, id)
    box = random_crop_view((height, width), (size, size), RandomResizedCrop(), key).box
    assume(all((2 * row + 1) * side % (2 * size) for side in (box.height, box.width) for row in range(size)))
    image, mask = drawn(height, width, id)
    cut = pipeline(height, width, varies=True, seed=3, image_size=size, train={"random_resized_crop": {}, "flip": 0.5})
    expected = nearest(
        v2.functional.crop(tv_tensors.Mask(mask), box.top, box.left, box.height, box.width), (size, size)
    )
    if sample_random.uniform(key, sample_random.FLIP) < 0.5:
        expected = v2.functional.horizontal_flip(tv_tensors.Mask(expected))
    assert np.array_equal(made(cut, image, mask, id)["mask"], np.asarray(expected))


@settings(max_examples=40)
@given(st.integers(8, 40), st.integers(0, 12), st.booleans(), IDS)
def test_padding_cropping_and_mirroring_are_torchvisions_and_fill_with_void(side, pad, flip, id):
    image, mask = drawn(side, side + 3, id)
    key = sample_random.sample_key(1, 0, id)
    top, left = (sample_random.integer(key, sample_random.PAD + axis, 2 * pad + 1) for axis in (0, 1))

    def theirs(pixels, fill):
        part = v2.functional.pad(tv_tensors.Mask(pixels), [pad] * 4, fill=fill)
        part = v2.functional.crop(part, top, left, side, side + 3)
        return np.asarray(v2.functional.horizontal_flip(part) if flip else part)

    cut = pipeline(side, side + 3, varies=False, seed=1, train={"pad_and_crop": pad, "flip": float(flip)})
    out = made(cut, image, mask, id)
    assert np.array_equal(out["mask"], theirs(mask, VOID))
    added = theirs(np.zeros_like(mask), 1) == 1
    assert np.array_equal(out["image"][0][~added], out["mask"][~added]), "the image went where the mask went"
    assert (out["image"][:, added] == 0).all()
    assert (out["mask"][added] == VOID).all()


@settings(max_examples=40)
@given(SIDES, SIDES, st.integers(4, 24), IDS, st.booleans())
def test_a_mask_keeps_to_its_values_and_colours_leave_it_alone(height, width, size, id, training):
    image, mask = drawn(height, width, id)
    options = {"varies": True, "training": training, "image_size": size}
    out = made(pipeline(height, width, train=EVERYTHING, **options), image, mask, id)
    assert out["mask"].shape == out["image"].shape[1:] == (size, size)
    assert set(np.unique(out["mask"])) <= {*np.unique(mask).tolist(), VOID}
    alone = made(pipeline(height, width, train=SPATIAL, **options), image, mask, id)
    assert np.array_equal(out["mask"], alone["mask"])


@settings(max_examples=30)
@given(st.integers(8, 30), st.sampled_from([{"pad_and_crop": 3, "flip": 0.5}, EVERYTHING]), st.integers(0, 1000))
def test_decoded_samples_change_as_stored_ones_do(side, train, epoch):
    changed_by = pipeline(side, side, varies=False, seed=5, train=train)
    samples = [drawn(side, side, number) for number in range(3)]
    arrays = {
        "image": np.stack([image.transpose(2, 0, 1) for image, _ in samples]),
        "mask": np.stack([mask for _, mask in samples]),
    }
    batch = changed_by.batch(arrays, epoch, np.arange(3))
    for number, (image, mask) in enumerate(samples):
        one = made(changed_by, image, mask, number, epoch)
        assert np.array_equal(batch["mask"][number], one["mask"])
        assert np.array_equal(batch["image"][number], one["image"])


def test_evaluation_takes_the_middle_of_a_mask_as_of_its_image():
    image, mask = drawn(40, 60, 0)
    keys = {"image_size": 20, "eval": {"resize": 25}}
    spec = AugmentedSourceSpec.model_validate({"name": "x", **keys})
    view = evaluation_view((40, 60), image_sizes(None, spec))
    expected = v2.functional.center_crop(tv_tensors.Mask(nearest(mask, view.resized)), [20, 20])
    out = made(pipeline(40, 60, varies=True, training=False, **keys), image, mask)
    assert np.array_equal(out["mask"], np.asarray(expected))


@given(st.integers(1, 200), st.integers(1, 200))
def test_the_nearest_row_is_the_one_that_the_middle_lies_in(size, resized):
    rows = nearest_rows(size, resized)
    middles = (np.arange(resized) + 0.5) * size / resized
    assert ((rows <= middles + 1e-9) & (middles <= rows + 1 + 1e-9)).all()
    assert rows.min() >= 0
    assert rows.max() < size


def test_a_stored_mask_of_another_size_than_its_image_is_refused():
    image, mask = drawn(12, 16, 0)
    with pytest.raises(ValueError, match="mask: expected the image's 16 x 12 pixels"):
        made(pipeline(12, 16, varies=True, image_size=8), image, mask[:, :-1])


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(8, 60), IDS, st.booleans())
def test_a_letterboxed_image_is_whole_and_its_mask_is_void_around_it(height, width, side, id, moved):
    image, mask = drawn(height, width, id)
    train = {"flip": 0.5, "pad_and_crop": 3} if moved else {}
    boxed = pipeline(height, width, varies=True, image_size=side, letterbox=True, train=train, training=moved)
    out = made(boxed, image, mask, id)
    assert out["image"].shape == (3, side, side)
    assert set(np.unique(out["mask"])) <= {*np.unique(mask), VOID}
    if moved:
        return
    high, wide = inside_square((height, width), side)
    assert max(high, wide) == side
    assert abs(min(high, wide) - side * min(height, width) / max(height, width)) <= max(0.5, 1 - 1e-9)
    top, left = -((high - side) // 2), -((wide - side) // 2)
    inner = (slice(top, top + high), slice(left, left + wide))
    assert np.array_equal(out["mask"][inner], mask[nearest_rows(height, high)][:, nearest_rows(width, wide)])
    expected = v2.functional.resize(torch.as_tensor(image).permute(2, 0, 1), [high, wide], antialias=True)
    assert np.array_equal(out["image"][:, *inner], expected.numpy())
    outside = np.ones((side, side), bool)
    outside[inner] = False
    assert (out["mask"][outside] == VOID).all()
    assert (out["image"][:, outside] == 0).all()
    assert abs(2 * top + high - side) <= 1
    assert abs(2 * left + wide - side) <= 1


@given(SIDES, SIDES, IDS)
@settings(max_examples=20)
def test_stored_samples_of_one_size_are_letterboxed_as_encoded_ones(height, width, id):
    image, mask = drawn(height, width, id)
    boxed = pipeline(height, width, varies=False, image_size=32, letterbox=True, train={"flip": 0.5, "pad_and_crop": 2})
    one = made(boxed, image, mask, id, 1)
    arrays = {"image": image.transpose(2, 0, 1)[None], "mask": mask[None]}
    many = boxed.batch(arrays, 1, np.asarray([id]))
    assert np.array_equal(many["image"][0], one["image"])
    assert np.array_equal(many["mask"][0], one["mask"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "needs image_size"),
        ({"image_size": 8, "eval": {"resize": 8}}, "leave out eval.resize"),
        ({"image_size": 8, "eval": {"center_crop": 8}}, "leave out eval.resize"),
    ],
)
def test_a_letterbox_that_cannot_be_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        AugmentedSourceSpec.model_validate({"name": "x", "letterbox": True, **keys})
